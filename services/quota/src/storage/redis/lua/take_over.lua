-- Leases expired reservations of one tenant to the caller. Because it moves their leases ahead in the same step, no two callers
-- get the same one.
--
-- KEYS: the tenant's state, its leases. ARGV: how many at most, the lease (ms).
-- Answers reservation, record, reservation, record, ...
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local ids = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now, 'LIMIT', 0, ARGV[1])
if #ids == 0 then return {} end
local records = redis.call('HMGET', KEYS[1], unpack(ids))
local answer = {}
for i, id in ipairs(ids) do
  local record = records[i]
  if record and string.sub(record, 1, 1) == 'R' then
    redis.call('ZADD', KEYS[2], now + ARGV[2], id)
    answer[#answer + 1] = id
    answer[#answer + 1] = record
  else
    redis.call('ZREM', KEYS[2], id)
  end
end
return answer
