-- Reads counters.
--
-- KEYS: the tenant's state, then one set for each concurrency limit. ARGV: the fields of the subjects.
-- Answers now and the live calls of each concurrency limit, then each subject's value.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local answer = {struct.pack('<d', now)}
for i = 2, #KEYS do answer[1] = answer[1] .. struct.pack('<d', redis.call('ZCOUNT', KEYS[i], '(' .. now, '+inf')) end
if #ARGV > 0 then
  for i, value in ipairs(redis.call('HMGET', KEYS[1], unpack(ARGV))) do answer[1 + i] = value or '' end
end
return answer
