-- Stores an entry of an owner, within the owner's size.
-- KEYS: generation, entry, expiries, sizes
-- ARGV: the generation that was seen (or ''), a fresh one, the content, its time to live, the time that the owner's own keys live (both
-- in ms), the most bytes of all entries together
local seen, fresh, content = ARGV[1], ARGV[2], ARGV[3]
local ttl, most = tonumber(ARGV[4]), tonumber(ARGV[6])
local generation = redis.call('GET', KEYS[1]) or ''
if generation ~= seen then
    return 0
end
if generation == '' then
    generation = fresh
end
local size = #generation + #content
if size > most then
    return 0
end

local function forget(key)
    local known = redis.call('HGET', KEYS[4], key)
    if known then
        redis.call('HDEL', KEYS[4], key)
        redis.call('HINCRBY', KEYS[4], 'all', -tonumber(known))
    end
    redis.call('ZREM', KEYS[3], key)
end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for _, key in ipairs(redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', now, 'LIMIT', 0, 64)) do
    forget(key)
end
forget(KEYS[2])
-- Those that would end first make room; a bounded number, so that no call waits for long.
local all = tonumber(redis.call('HGET', KEYS[4], 'all') or '0')
for _ = 1, 64 do
    if all + size <= most then
        break
    end
    local first = redis.call('ZRANGE', KEYS[3], 0, 0)[1]
    if not first then
        break
    end
    redis.call('UNLINK', first)
    forget(first)
    all = tonumber(redis.call('HGET', KEYS[4], 'all') or '0')
end
if all + size > most then
    redis.call('UNLINK', KEYS[2])
    return 0
end
redis.call('SET', KEYS[1], generation, 'PX', ARGV[5])
redis.call('SET', KEYS[2], generation .. content, 'PX', ARGV[4])
redis.call('ZADD', KEYS[3], now + ttl, KEYS[2])
redis.call('HSET', KEYS[4], KEYS[2], size)
redis.call('HINCRBY', KEYS[4], 'all', size)
redis.call('PEXPIRE', KEYS[3], ARGV[5])
redis.call('PEXPIRE', KEYS[4], ARGV[5])
return 1
