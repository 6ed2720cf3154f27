-- Looks at the leases of one tenant that may have ended: forgets what is settled, puts what was lengthened where it belongs, and
-- leases expired reservations to the caller. Because it moves their leases ahead in the same step, no two callers get the same one.
--
-- KEYS: the tenant's state, its leases. ARGV: the program: how many reservations at most, the lease (ms) and its grain, how many due
--   members are to be passed over, how many to be looked at.
-- Answers whether more are due, and how many of those that were looked at still are; then reservation, value, ... of those that were
--   taken; and their sheets: number, head, records, ...
local read, write, sub = struct.unpack, struct.pack, string.sub
local state, leases = KEYS[1], KEYS[2]
local most, lease, grain, skip, some = read('<ddddd', ARGV[1])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local members = redis.call('ZRANGEBYSCORE', leases, '-inf', now, 'LIMIT', skip, some)
local ends = lease_end(now, lease, grain)
local taken, sheets, gone, changes, moved = {}, {}, {}, {}, {}
local left, looked, still = most, 0, 0
for _, member in ipairs(members) do
  if most > 0 and left == 0 then break end
  looked = looked + 1
  local fields, first = fields_of(state, member), nil
  local values = #fields > 0 and redis.call('HMGET', state, unpack(fields)) or {}
  for i, field in ipairs(fields) do
    local value = values[i]
    if is_held(value, member) then
      local til = read('<d', value, 10)
      if til <= now and left > 0 then
        left, til = left - 1, ends
        tell(state, field, value, taken, sheets)
        changes[#changes + 1] = field
        changes[#changes + 1] = sub(value, 1, 9) .. write('<d', ends) .. sub(value, 18)
      end
      first = first and math.min(first, til) or til
    end
  end
  if not first then
    gone[#gone + 1] = member
  elseif first > now then
    moved[#moved + 1] = string.format('%.0f', first)
    moved[#moved + 1] = member
  else
    still = still + 1
  end
end
if #changes > 0 then redis.call('HSET', state, unpack(changes)) end
if #moved > 0 then redis.call('ZADD', leases, unpack(moved)) end
if #gone > 0 then
  redis.call('ZREM', leases, unpack(gone))
  local fields = {}
  for _, member in ipairs(gone) do
    if sub(member, 1, 1) == 'h' then
      fields[#fields + 1] = member
      fields[#fields + 1] = 'b' .. sub(member, 2)
    end
  end
  if #fields > 0 then redis.call('HDEL', state, unpack(fields)) end
end
return {(looked < #members or #members == some) and 1 or 0, still, taken, sheets}
