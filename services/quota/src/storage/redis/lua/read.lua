-- Reads counters.
--
-- KEYS: the tenant's state. ARGV: how many concurrency limits; their counters' fields; the fields of the subjects.
-- Answers now and the live calls of each concurrency limit, then each subject's value.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local numbers, answer, limits = {now}, {''}, tonumber(ARGV[1])
if #ARGV > 1 then
  for i, value in ipairs(redis.call('HMGET', KEYS[1], unpack(ARGV, 2))) do
    if i <= limits then numbers[i + 1] = under_way(value, now).live else answer[1 + i - limits] = value or '' end
  end
end
answer[1] = struct.pack('<' .. string.rep('d', #numbers), unpack(numbers))
return answer
