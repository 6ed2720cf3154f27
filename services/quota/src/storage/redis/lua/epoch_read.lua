-- Reads the generation.
--
-- KEYS: the epoch. Answers number, server, when it began (ms) and whether there was one before; and now (ms).
local time = redis.call('TIME')
local epoch = redis.call('HMGET', KEYS[1], 'generation', 'server', 'began', 'rebuilds')
return {epoch, time[1] * 1000 + math.floor(time[2] / 1000)}
