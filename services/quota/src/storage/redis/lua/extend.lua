-- Lengthens leases, of one tenant or of several.
--
-- KEYS: per tenant its state, its leases, its concurrency sets. ARGV: the program; per tenant the fields of the reservations.
-- The program: generation, tenants; per tenant: reservations, concurrency sets; per reservation: the lease (ms), in how many of the
--   sets it is, and which.
-- Answers per tenant one letter per reservation: E extended, S settled before, U unknown in this generation.
local call, read, sub = redis.call, struct.unpack, string.sub
local time = call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local a = {read('<' .. string.rep('d', #ARGV[1] / 8), ARGV[1])}
local head = 'R' .. struct.pack('<d', a[1])
local answer, at, key, arg, last, score = {}, 3, 1, 1, nil, nil
for tenant = 1, a[2] do
  local count, sets = a[at], a[at + 1]
  at = at + 2
  local records = call('HMGET', KEYS[key], unpack(ARGV, arg + 1, arg + count))
  local letters, scored = {}, {[0] = {}}
  for i = 1, sets do scored[i] = {} end
  for i = 1, count do
    local record, id, lease, memberships = records[i], ARGV[arg + i], a[at], a[at + 1]
    at = at + 2
    if record and sub(record, 1, 9) == head then
      letters[i] = 'E'
      if lease ~= last then last, score = lease, string.format('%.0f', now + lease) end
      for m = 0, memberships do
        local list = scored[m == 0 and 0 or a[at + m - 1]]
        local n = #list
        list[n + 1], list[n + 2] = score, id
      end
    else
      letters[i] = record and sub(record, 1, 1) ~= 'R' and 'S' or 'U'
    end
    at = at + memberships
  end
  for i = 0, sets do
    if #scored[i] > 0 then call('ZADD', KEYS[key + 1 + i], unpack(scored[i])) end
  end
  answer[tenant] = table.concat(letters)
  key, arg = key + 2 + sets, arg + count
end
return answer
