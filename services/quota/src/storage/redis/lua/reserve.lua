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
local call, read, write, sub = redis.call, struct.unpack, struct.pack, string.sub
local time = call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local program = ARGV[2]
local gen, lease, checked, parts, concurrents, prints, pos = read('<dddddd', program)
local state = call('HMGET', KEYS[1], ARGV[1], unpack(ARGV, 5))

local record = state[1]
if record then
  if sub(record, 1, 1) ~= 'R' then return 'S' end
  if sub(record, 20, 19 + prints) ~= sub(ARGV[4], 3, 2 + prints) then return 'I' end
  return 'D' .. record
end

local refused = false
local answer = {'A', write('<d', now)}
local changes = {KEYS[1], ARGV[1], ARGV[3] .. write('<d', now) .. ARGV[4]}
for part = 1, parts do
  local layout, durable, limits, sweep, longest
  layout, durable, limits, sweep, longest, pos = read('<ddddd', program, pos)
  local blob = state[part + 1]
  local entries, at, queue_at, adopted = limits, 33, 0, false
  if blob then
    local bgen, blayout, bsweep
    bgen, blayout, bsweep, entries, at = read('<dddd', blob)
    adopted = bgen ~= gen
    if blayout ~= layout or (adopted and durable == 1) then return 'C' end
    if bsweep < 0 then sweep = -1 elseif sweep >= 0 and bsweep > sweep then sweep = bsweep end
    queue_at = 33 + 36 * entries
  elseif durable == 1 then
    return 'C'
  end
  local fixed, queues = {'', ''}, {}
  for _ = 1, limits do
    local kind, id, cap, amount, p, q
    kind, id, cap, amount, p, q, pos = read('<dddddd', program, pos)
    local a, spent, held, version = p, 0, 0, 0
    if blob then
      local _
      _, a, spent, held, version, at = read('<I4dddd', blob, at)
      -- What was held in a former generation counts again when it is announced again.
      if adopted then held = 0 end
    elseif kind == 2 then
      a = -1
    end
    if kind == 1 then
      if amount >= 0 then
        if now >= q or (now < p and checked == 1) then return 'T' .. write('<d', now) end
        if a > p then return 'P' .. write('<dd', id, a) end
        if a < p then a, spent, held, version = p, 0, 0, 0 end
        if amount > 0 and amount > cap - spent - held then refused = true end
        held = held + amount
        answer[#answer + 1] = write('<dd', spent + held, held)
      end
    else
      local n = -1 - a
      local queue_end = queue_at + 16 * n
      if amount >= 0 then
        while n > 0 do
          local bucket, size = read('<dd', blob, queue_at)
          if bucket + p > now then break end
          spent, queue_at, n = spent - size, queue_at + 16, n - 1
        end
        if amount > 0 then
          if amount > cap - spent then refused = true end
          spent, held = spent + amount, held + amount
          local bucket = (math.floor(now / q) + 1) * q
          local last, size = 0, 0
          if n > 0 then last, size = read('<dd', blob, queue_end - 16) end
          if bucket <= last then
            queues[#queues + 1] = sub(blob, queue_at, queue_end - 17) .. write('<dd', last, size + amount)
          else
            if n > 0 then queues[#queues + 1] = sub(blob, queue_at, queue_end - 1) end
            queues[#queues + 1] = write('<dd', bucket, amount)
            n = n + 1
          end
        elseif n > 0 then
          queues[#queues + 1] = sub(blob, queue_at, queue_end - 1)
        end
        answer[#answer + 1] = write('<dd', spent, held < spent and held or spent)
        a = -1 - n
      elseif n > 0 then
        queues[#queues + 1] = sub(blob, queue_at, queue_end - 1)
      end
      queue_at = queue_end
    end
    fixed[#fixed + 1] = write('<I4dddd', id, a, spent, held, version)
  end
  if not refused then
    if entries > limits then
      -- Counters of a former plan. A new generation doesn't know what they held.
      if adopted then
        entries = limits
      else
        fixed[#fixed + 1] = sub(blob, at, 32 + 36 * entries)
        queues[#queues + 1] = sub(blob, queue_at)
      end
    end
    if sweep >= 0 and longest > 0 and now + 2 * longest > sweep then sweep = now + 2 * longest end
    fixed[1] = write('<dddd', gen, layout, sweep, entries)
    changes[#changes + 1] = ARGV[4 + part]
    changes[#changes + 1] = table.concat(fixed) .. table.concat(queues)
  end
end

local live = {}
for i = 1, concurrents do
  local cap
  cap, pos = read('<d', program, pos)
  live[i] = call('ZCOUNT', KEYS[2 + i], '(' .. now, '+inf')
  if live[i] >= cap then refused = true end
end

if refused then
  local refusal = {'N', write('<d', now)}
  for i = 1, concurrents do refusal[2] = refusal[2] .. write('<d', live[i]) end
  for part = 1, parts do refusal[2 + part] = state[part + 1] or '' end
  return refusal
end

call('HSET', unpack(changes))
call('ZADD', KEYS[2], now + lease, ARGV[1])
for i = 1, concurrents do
  call('ZADD', KEYS[2 + i], now + lease, ARGV[1])
  answer[#answer + 1] = write('<dd', live[i] + 1, live[i] + 1)
end
return table.concat(answer)
