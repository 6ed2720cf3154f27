-- Puts the totals of an account in place that were read from Postgres, unless it is in this generation already.
--
-- KEYS: the account. ARGV: the fence; the program: generation, period (0: rolling), total, version, buckets; then end and size of each.
-- Answers 1, or 0 if the fence is gone: then the store was emptied after Postgres was read.
local read, write = struct.unpack, struct.pack
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local gen, period, spent, version, n, pos = read('<ddddd', ARGV[2])
local values = redis.call('HMGET', KEYS[1], '!', 'h')
if values[1] ~= ARGV[1] then return 0 end
if values[2] and read('<d', values[2]) == gen then return 1 end
local buckets, size, _ = string.sub(ARGV[2], pos)
for i = 1, n do
  _, size, pos = read('<dd', ARGV[2], pos)
  spent = spent + size
end
redis.call('HSET', KEYS[1], 'h', write('<ddddddd', gen, period, spent, 0, version, now, n) .. buckets, 'p', '')
return 1
