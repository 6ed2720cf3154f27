-- Begins a generation, unless another process has begun one on this server.
--
-- KEYS: the epoch. ARGV: the server's identity, the generation, whether there was one before (then money is closed for a while).
-- Answers the generation in force: number, server, when it began (ms), whether there was one before, and now (ms).
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local epoch = redis.call('HMGET', KEYS[1], 'generation', 'server', 'began', 'rebuilds')
if not epoch[1] or epoch[2] ~= ARGV[1] then
  epoch = {ARGV[2], ARGV[1], tostring(now), ARGV[3]}
  redis.call('HSET', KEYS[1], 'generation', ARGV[2], 'server', ARGV[1], 'began', epoch[3], 'rebuilds', ARGV[3])
end
epoch[5] = tostring(now)
return epoch
