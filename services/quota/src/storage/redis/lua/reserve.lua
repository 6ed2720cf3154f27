-- Reserves against all limits at once, or writes nothing.
--
-- KEYS: the tenant's state, its leases, then one set for each concurrency limit.
-- ARGV: the reservation's field; the program; the head of its record; the tail; then the field of each part.
-- The program: generation, lease (ms), whether the clock is checked, parts, concurrency limits, length of the fingerprint;
--   per part: layout, durable, limits, sweep after (-1 never), longest rolling window;
--   per limit: kind (1 period, 2 rolling), id, cap, amount (-1 untouched), then start and end, or length and grain;
--   per concurrency limit: cap.
-- Answers one letter and what belongs to it:
--   A admitted (now, then used and held of each touched limit)   N refused (an array: now and live calls, then each part's value)
--   D a duplicate (the record)   I the id is in use for something else   S settled before
--   C cold: counters must be loaded   T the clock is outside a period (now)   P a counter is in a later period (id, start)
-- Every amount and every cap is at most 2^53 - 1, and so is every sum that is compared: doubles are exact.
--
-- What a script costs is the number of its calls into C and of the strings that it makes. So the program and each part are read
-- and written by one call each, and a queue is only touched when a bucket begins or leaves.
local call, read, write, sub, rep, floor = redis.call, struct.unpack, struct.pack, string.sub, string.rep, math.floor
local time = call('TIME')
local now = time[1] * 1000 + floor(time[2] / 1000)
local program = {read('<' .. rep('d', #ARGV[2] / 8), ARGV[2])}
local gen, parts, concurrents = program[1], program[4], program[5]
local state = call('HMGET', KEYS[1], ARGV[1], unpack(ARGV, 5))

local record = state[1]
if record then
  if sub(record, 1, 1) ~= 'R' then return 'S' end
  if sub(record, 25, 24 + program[6]) ~= sub(ARGV[4], 8, 7 + program[6]) then return 'I' end
  return 'D' .. record
end

local refused = false
local answer, answers = {now}, 1
local changes = {KEYS[1], ARGV[1], ''}
local at = 6
for part = 1, parts do
  local layout, durable, limits = program[at + 1], program[at + 2], program[at + 3]
  local sweep, longest = program[at + 4], program[at + 5]
  at = at + 5
  local format = '<dddd' .. rep('ddddddd', limits)
  local blob = state[part + 1]
  local values, adopted
  if blob then
    -- Shorter than the format: of another layout.
    if #blob < 32 + 56 * limits then return 'C' end
    values = {read(format, blob)}
    adopted = values[1] ~= gen
    if values[2] ~= layout or (adopted and durable == 1) then return 'C' end
    if values[3] < 0 then sweep = -1 elseif sweep >= 0 and values[3] > sweep then sweep = values[3] end
  elseif durable == 1 then
    return 'C'
  else
    values = {gen, layout, sweep, limits}
    for i = 1, limits do
      local v, p = 7 * i - 2, at + 6 * i - 5
      values[v], values[v + 1] = program[p + 1], program[p] == 2 and -1 or 0
      for j = v + 2, v + 6 do values[j] = 0 end
    end
    blob = ''
  end
  local queues = 33 + 56 * values[4]
  local from, to, more, changed = {}, {}, {}, false
  local queue_at = queues
  for i = 1, limits do
    -- The place of the limit in the program, and of its counter among the values: id, period or -1 - buckets in the queue,
    -- spent, held, version or end of the oldest bucket in the queue, end and size of the newest bucket.
    local v = 7 * i - 2
    local cap, amount, p, q = program[at + 3], program[at + 4], program[at + 5], program[at + 6]
    -- What was held in a former generation counts again when it is announced again.
    if adopted then values[v + 3] = 0 end
    if program[at + 1] == 1 then
      if amount >= 0 then
        local period = values[v + 1]
        if now >= q or (now < p and program[3] == 1) then return 'T' .. write('<d', now) end
        if period > p then return 'P' .. write('<dd', values[v], period) end
        if period < p then values[v + 1], values[v + 2], values[v + 3], values[v + 4] = p, 0, 0, 0 end
        local spent, held = values[v + 2], values[v + 3]
        if amount > 0 and amount > cap - spent - held then refused = true end
        values[v + 3] = held + amount
        answer[answers + 1], answer[answers + 2] = spent + held + amount, held + amount
        answers = answers + 2
      end
    else
      local n = -1 - values[v + 1]
      from[i], to[i] = queue_at, queue_at + 16 * n - 1
      queue_at = to[i] + 1
      if amount >= 0 then
        local spent = values[v + 2]
        while n > 0 and values[v + 4] + p <= now do
          local _, size = read('<dd', blob, from[i])
          spent, n, changed, from[i] = spent - size, n - 1, true, from[i] + 16
          if n > 0 then values[v + 4] = read('<d', blob, from[i]) end
        end
        if n == 0 and values[v + 5] + p <= now then spent, values[v + 6] = spent - values[v + 6], 0 end
        if amount > 0 then
          if amount > cap - spent then refused = true end
          spent, values[v + 3] = spent + amount, values[v + 3] + amount
          local bucket = (floor(now / q) + 1) * q
          if bucket <= values[v + 5] then
            values[v + 6] = values[v + 6] + amount
          else
            if values[v + 6] > 0 then
              if n == 0 then values[v + 4] = values[v + 5] end
              n, changed, more[i] = n + 1, true, write('<dd', values[v + 5], values[v + 6])
            end
            values[v + 5], values[v + 6] = bucket, amount
          end
        end
        values[v + 1], values[v + 2] = -1 - n, spent
        answer[answers + 1], answer[answers + 2] = spent, values[v + 3] < spent and values[v + 3] or spent
        answers = answers + 2
      end
    end
    at = at + 6
  end
  if not refused then
    local entries, extra = values[4], ''
    if entries > limits then
      -- Counters of a former plan. A new generation doesn't know what they held.
      if adopted then
        entries, queue_at = limits, #blob + 1
        changed = true
      else
        extra = sub(blob, 33 + 56 * limits, queues - 1)
      end
    end
    if sweep >= 0 and longest > 0 and now + 2 * longest > sweep then sweep = now + 2 * longest end
    values[1], values[3], values[4] = gen, sweep, entries
    local queue
    if changed then
      queue = {}
      for i = 1, limits do
        if from[i] then
          queue[#queue + 1] = sub(blob, from[i], to[i])
          queue[#queue + 1] = more[i]
        end
      end
      queue[#queue + 1] = sub(blob, queue_at)
      queue = table.concat(queue)
    else
      queue = sub(blob, queues)
    end
    changes[2 * part + 2] = ARGV[4 + part]
    changes[2 * part + 3] = write(format, unpack(values, 1, 4 + 7 * limits)) .. extra .. queue
  end
end

local live = {}
for i = 1, concurrents do
  live[i] = call('ZCOUNT', KEYS[2 + i], '(' .. now, '+inf')
  if live[i] >= program[at + i] then refused = true end
end

if refused then
  local refusal = {'N', write('<d', now) .. write('<' .. rep('d', concurrents), unpack(live))}
  for part = 1, parts do refusal[2 + part] = state[part + 1] or '' end
  return refusal
end

for i = 1, concurrents do
  call('ZADD', KEYS[2 + i], now + program[2], ARGV[1])
  answer[answers + 1], answer[answers + 2] = live[i] + 1, live[i] + 1
  answers = answers + 2
end
local packed = write('<' .. rep('d', answers), unpack(answer))
changes[3] = ARGV[3] .. sub(packed, 1, 8) .. ARGV[4] .. sub(packed, 9)
call('HSET', unpack(changes))
call('ZADD', KEYS[2], now + program[2], ARGV[1])
return 'A' .. packed
