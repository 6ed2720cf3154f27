-- Forgets a tenant that has had no lease for long, unless it was registered again meanwhile.
--
-- KEYS: the tenants. ARGV: the tenant, the time that it was registered at. Answers 1 if it is gone.
if redis.call('ZSCORE', KEYS[1], ARGV[1]) == ARGV[2] then return redis.call('ZREM', KEYS[1], ARGV[1]) end
return 0
