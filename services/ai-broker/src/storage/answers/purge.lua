-- Begins another generation, and deletes a bounded number of the entries of those before it.
-- KEYS: generation, expiries, sizes
-- ARGV: the generation, how long it lives (ms)
-- Answers how many entries were deleted, and whether none is left.
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
local keys = redis.call('ZRANGE', KEYS[2], 0, 499)
for _, key in ipairs(keys) do
    redis.call('UNLINK', key)
    redis.call('ZREM', KEYS[2], key)
    local size = redis.call('HGET', KEYS[3], key)
    if size then
        redis.call('HDEL', KEYS[3], key)
        redis.call('HINCRBY', KEYS[3], 'all', -tonumber(size))
    end
end
if redis.call('ZCARD', KEYS[2]) == 0 then
    redis.call('DEL', KEYS[3])
    return {#keys, 1}
end
return {#keys, 0}
