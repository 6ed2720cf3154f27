-- Forgets a process that has died, in one account: whatever it gave out is known. See shared_round.lua for the layout.
--
-- KEYS: the account. ARGV: the process. Answers whether it was there.
local read, sub = struct.unpack, string.sub
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local holders = redis.call('HGET', KEYS[1], 'p')
if not holders then return 0 end
for at = 1, #holders, 56 do
  if sub(holders, at, at + 15) == ARGV[1] then
    if read('<d', holders, at + 24) > now then return 0 end
    redis.call('HSET', KEYS[1], 'p', sub(holders, 1, at - 1) .. sub(holders, at + 56))
    return 1
  end
end
return 0
