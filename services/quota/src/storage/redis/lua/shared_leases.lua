-- One message about the seats of a concurrency limit across tenants; see domain/shared/leases.rs.
--
-- KEYS: the seats by the end of their lease, those of undecided requests, calls that have ended by their time; all sorted sets.
-- ARGV: the program; then ids: of ended calls, of seats given back, of decided requests, of extended calls, of wanted seats.
-- The program: cap, remember (ms), undecided (ms), ended, given back, decided, extended, wanted; the lease (ms) of each extended and
--   wanted one.
-- Answers live and undecided seats, then one letter for each wanted one: T taken, H had before, F full, E ended.
local call, read, write, floor = redis.call, struct.unpack, struct.pack, math.floor
local time = call('TIME')
local now = time[1] * 1000 + floor(time[2] / 1000)
local cap, remember, undecided, ended, given_back, decided, extended, wanted, pos = read('<dddddddd', ARGV[1])
local seats, open, gone = KEYS[1], KEYS[2], KEYS[3]
call('ZREMRANGEBYSCORE', gone, '-inf', now - remember)
call('ZREMRANGEBYSCORE', seats, '-inf', now)
call('ZREMRANGEBYSCORE', open, '-inf', now)
local at = 1
for _ = 1, ended do
  at = at + 1
  call('ZADD', gone, now, ARGV[at])
  call('ZREM', seats, ARGV[at])
  call('ZREM', open, ARGV[at])
end
for _ = 1, given_back do
  at = at + 1
  call('ZREM', seats, ARGV[at])
  call('ZREM', open, ARGV[at])
end
for _ = 1, decided do
  at = at + 1
  call('ZREM', open, ARGV[at])
end
local lease
for _ = 1, extended do
  at = at + 1
  lease, pos = read('<d', ARGV[1], pos)
  if not call('ZSCORE', gone, ARGV[at]) then call('ZADD', seats, now + lease, ARGV[at]) end
end
local live, letters = call('ZCARD', seats), {}
for i = 1, wanted do
  at = at + 1
  lease, pos = read('<d', ARGV[1], pos)
  if call('ZSCORE', gone, ARGV[at]) then
    letters[i] = 'E'
  elseif call('ZSCORE', seats, ARGV[at]) then
    letters[i] = 'H'
  elseif live >= cap then
    letters[i] = 'F'
  else
    live = live + 1
    call('ZADD', seats, now + lease, ARGV[at])
    call('ZADD', open, now + undecided, ARGV[at])
    letters[i] = 'T'
  end
end
return write('<dd', live, call('ZCARD', open)) .. table.concat(letters)
