-- Lets a reservation hold more: what it holds is given back and the whole reserved anew, or nothing is changed.
--
-- KEYS: the tenant's state, its leases.
-- ARGV: the reservation's field; the program; what is kept of it; the fields of the subjects, of the concurrency limits' counters.
-- The program: generation, when it was reserved, the lease (ms) and its grain, subjects, concurrency limits, held counters,
--   subjects of the plan (the first ones), whether the clock is checked; then
--   per held counter: subject (1-based), limit, window's length (0 of a period), period or bucket, amount;
--   per subject of the plan: layout, durable, sweep after (-1 never), longest rolling window, counters; per counter: kind (1 period,
--     2 rolling), limit, cap, then start and end, or length and grain; amount (-1 untouched);
--   per concurrency limit: cap.
-- Answers a letter and what belongs to it:
--   A grown: now, then used and held of each counter    N refused: now, live calls, then each subject as it would be without it
--   T the clock is outside a period: now    P a counter is in a later period: its start
--   C cold: counters must be loaded    G the generation is over    S settled    X not what it was thought to be
local program = ARGV[2]
local gen, reserved_at, lease, grain, subjects, limits, held, planned, check, pos = read('<ddddddddd', program)
local values = call('HMGET', KEYS[1], ARGV[1], unpack(ARGV, 4))
local now = now_millis()
local record = values[1]
if not record then return {'X'} end
if sub(record, 1, 1) ~= 'R' then return {'S'} end
local sheet = sheet_of(record)
local since = sheet and read('<d', call('HGET', KEYS[1], sheet) or write('<d', 0)) or read('<d', record, 34)
-- By when it was reserved, handles from before and after are told apart.
if read('<d', record, 2) ~= gen or since ~= reserved_at or now == since then return {'X'} end

local states = {}
for i = 1, subjects do states[i] = values[1 + i] and parse(values[1 + i]) or false end

-- What it holds is given back, as by a release.
for _ = 1, held do
  local subject, limit, length, place, amount
  subject, limit, length, place, amount, pos = read('<ddddd', program, pos)
  local counted = states[subject]
  local entry = counted and counted.by_id[limit]
  if entry and (entry.queue ~= nil) == (length > 0) then
    local ours = counted.gen == gen
    if length > 0 then
      if ours then entry.held = clamp(entry.held - amount) end
      if ours and place + length > now then adjust(entry, place, -amount) end
    elseif entry.period == place and ours then
      entry.held = clamp(entry.held - amount)
    end
  end
end

-- Then all counters are looked at, before any is changed.
local numbers, takes, refused = {now}, {}, false
for i = 1, planned do
  local layout, durable, sweep, longest, counters
  layout, durable, sweep, longest, counters, pos = read('<ddddd', program, pos)
  local counted = states[i]
  if counted and counted.gen > gen then return {'G'} end
  if not counted or counted.layout ~= layout or (durable == 1 and counted.gen ~= gen) then return {'C'} end
  if counted.gen ~= gen then
    for _, other in ipairs(counted.list) do other.held = 0 end
    counted.gen = gen
  end
  if sweep < 0 or counted.sweep < 0 then
    counted.sweep = -1
  else
    counted.sweep = math.max(sweep, counted.sweep, longest > 0 and now + 2 * longest or 0)
  end
  for _ = 1, counters do
    local kind, limit, cap, first, second, amount
    kind, limit, cap, first, second, amount, pos = read('<dddddd', program, pos)
    local entry = counted.by_id[limit]
    if amount >= 0 then
      if not entry or (entry.queue ~= nil) ~= (kind == 2) then return {'C'} end
      local used, holds = 0, 0
      if kind == 1 then
        if now >= second or (now < first and check == 1) then return {'T', write('<d', now)} end
        if entry.period > first then return {'P', write('<d', entry.period)} end
        if entry.period == first then used, holds = entry.spent + entry.held, entry.held end
      else
        while #entry.queue > 0 do
          local ends, size = read('<dd', entry.queue)
          if ends + first > now then break end
          entry.spent, entry.queue = entry.spent - size, sub(entry.queue, 17)
        end
        used, holds = entry.spent, math.min(entry.held, entry.spent)
      end
      if amount > 0 and amount > cap - used then refused = true end
      numbers[#numbers + 1], numbers[#numbers + 2] = used + amount, holds + amount
      takes[#takes + 1] = {entry, kind, first, second, amount}
    end
  end
end
local counts_until = read('<d', record, 18)
local others = {}
for i = 1, limits do
  local cap
  cap, pos = read('<d', program, pos)
  local live = under_way(values[1 + subjects + i], now).live - (counts_until > now and 1 or 0)
  if live >= cap then refused = true end
  others[i] = live
  numbers[#numbers + 1], numbers[#numbers + 2] = live + 1, live + 1
end
if refused then
  local answer = {'N', write('<d' .. string.rep('d', limits), now, unpack(others))}
  for i = 1, planned do answer[2 + i] = build(states[i]) end
  return answer
end

for _, take in ipairs(takes) do
  local entry, kind, first, second, amount = unpack(take)
  if kind == 1 and entry.period < first then
    entry.period, entry.spent, entry.held, entry.version = first, 0, 0, 0
  end
  if kind == 2 then insert(entry, (math.floor(now / second) + 1) * second, amount) end
  entry.held = entry.held + amount
end
local ends = lease_end(now, lease, grain)
local decision = write('<' .. string.rep('d', #numbers - 1), unpack(numbers, 2))
local changes = {ARGV[1], 'R' .. write('<ddddd', gen, ends, ends, -1, now) .. ARGV[3] .. decision}
for i = 1, subjects do
  if states[i] then
    changes[#changes + 1] = ARGV[3 + i]
    changes[#changes + 1] = build(states[i])
  end
end
for i = 1, limits do
  local more = {}
  note(more, counts_until, -1)
  note(more, ends, 1)
  if next(more) then
    changes[#changes + 1] = ARGV[3 + subjects + i]
    changes[#changes + 1] = recounted(under_way(values[1 + subjects + i], now), more, now)
  end
end
call('HSET', KEYS[1], unpack(changes))
call('ZADD', KEYS[2], string.format('%.0f', ends), ARGV[1])
return {'A', write('<d', now) .. decision}
