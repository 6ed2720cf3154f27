-- Lengthens one lease.
--
-- KEYS: the tenant's state, its leases, its concurrency sets. ARGV: the reservation's field, the generation, the lease (ms).
-- Answers E extended, S settled before, U unknown in this generation.
local record = redis.call('HGET', KEYS[1], ARGV[1])
if not record then return 'U' end
if string.sub(record, 1, 1) ~= 'R' then return 'S' end
if struct.unpack('<d', record, 2) ~= tonumber(ARGV[2]) then return 'U' end
local time = redis.call('TIME')
local ends = time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[3]
for i = 2, #KEYS do redis.call('ZADD', KEYS[i], ends, ARGV[1]) end
return 'E'
