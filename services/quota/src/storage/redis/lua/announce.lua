-- Counts a reservation again that the store has lost or that an earlier generation knew.
--
-- KEYS: the tenant's state, its leases.
-- ARGV: the reservation's field; the program; the record; the fields of the subjects, of the concurrency limits' counters.
-- The program: generation, lease (ms) and its grain, subjects, whether the counters of today's plan have been loaded for this, counters; per counter:
--   subject (1-based), limit, rolling, durable, period or bucket, amount, window's length.
-- Answers E it was there, N announced, S settled before, C cold.
local program = ARGV[2]
local gen, lease, grain, subjects, loaded, counters, pos = read('<dddddd', program)
local values = call('HMGET', KEYS[1], ARGV[1], unpack(ARGV, 4))
local now = now_millis()
local answer = 'N'
local record, ends = values[1], lease_end(now, lease, grain)
local changes, til = {}, write('<dd', ends, ends)
if record and sub(record, 1, 1) ~= 'R' then return 'S' end
if record and read('<d', record, 2) == gen then
  answer = 'E'
  changes = {ARGV[1], sub(record, 1, 9) .. til .. sub(record, 26)}
  call('ZADD', KEYS[2], 'LT', string.format('%.0f', ends), (sheet_of(record)) or ARGV[1])
else
  local states = {}
  -- It may have grown.
  changes = {ARGV[1], 'R' .. write('<d', gen) .. til .. write('<d', -1) .. ARGV[3]}
  for _ = 1, counters do
    local subject, limit, rolling, durable, place, amount, length
    subject, limit, rolling, durable, place, amount, length, pos = read('<ddddddd', program, pos)
    local counted = states[subject]
    if counted == nil then
      local value = values[1 + subject]
      counted = value and parse(value) or false
      if counted then
        -- The generation is over; loading says so, too.
        if counted.gen > gen then return 'C' end
        counted.loaded_in = counted.gen
      end
      states[subject] = counted
    end
    if not counted or (durable == 1 and counted.loaded_in ~= gen) then
      if loaded == 0 then return 'C' end
      -- Of no limit of today's plan: whoever brings such a limit back loads it anew.
      counted, states[subject] = false, false
    end
    local entry = counted and counted.by_id[limit]
    if counted and counted.gen ~= gen then
      for _, other in ipairs(counted.list) do other.held = 0 end
      counted.gen = gen
    end
    if entry and (entry.queue ~= nil) == (rolling == 1) then
      if rolling == 1 then
        entry.held = clamp(entry.held + amount)
        -- The buckets of a rate outlive a change of the generation if the store kept its data.
        if place + length > now and (durable == 1 or not record) then insert(entry, place, amount) end
      else
        if entry.period < place then
          -- Made before the clock went back: what has begun stays begun.
          entry.period, entry.spent, entry.held, entry.version = place, 0, 0, 0
        end
        if entry.period == place then entry.held = clamp(entry.held + amount) end
      end
    end
  end
  for subject, counted in pairs(states) do
    if counted then
      changes[#changes + 1] = ARGV[3 + subject]
      changes[#changes + 1] = build(counted)
    end
  end
  call('ZADD', KEYS[2], string.format('%.0f', ends), ARGV[1])
end
-- One that an earlier generation knew is counted until its former end.
local before = record and read('<d', record, 18)
for i = 2 + subjects, #values do
  local more = {}
  if before then note(more, before, -1) end
  note(more, ends, 1)
  if next(more) then
    changes[#changes + 1] = ARGV[2 + i]
    changes[#changes + 1] = recounted(under_way(values[i], now), more, now)
  end
end
call('HSET', KEYS[1], unpack(changes))
return answer
