-- Lengthens leases, of one tenant or of several.
--
-- KEYS: per tenant its state, its leases. ARGV: the program; per tenant the fields of the reservations, of the concurrency limits'
--   counters.
-- The program: generation, tenants; per tenant: reservations, concurrency limits; per reservation: the lease (ms) and its grain, in
--   how many of the limits it counts, and which.
-- Answers per tenant one letter per reservation: E extended, S settled before, U unknown in this generation.
--
-- Where a lease is looked for stays as it is: whoever looks finds that it has not ended. Only one that ends earlier than before
-- must be looked for earlier.
local call, read, write, sub = redis.call, struct.unpack, struct.pack, string.sub
local time = call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local a = {read('<' .. string.rep('d', #ARGV[1] / 8), ARGV[1])}
local head = 'R' .. write('<d', a[1])
local answer, at, key, arg, last, ends, stamp = {}, 3, 1, 1, nil, nil, nil
for tenant = 1, a[2] do
  local count, limits = a[at], a[at + 1]
  at = at + 2
  local state = call('HMGET', KEYS[key], unpack(ARGV, arg + 1, arg + count + limits))
  local letters, changes, earlier, moved, n = {}, {}, {}, {}, 0
  for i = 1, limits do moved[i] = {} end
  -- Those of one sheet have one value.
  local old, new, til, before
  for i = 1, count do
    local value, lease, memberships = state[i], a[at], a[at + 2]
    if value and sub(value, 1, 9) == head then
      letters[i] = 'E'
      if lease ~= last then
        last, ends = lease, lease_end(now, lease, a[at + 1])
        stamp, old = write('<dd', ends, ends), nil
      end
      if value ~= old then
        old, new = value, head .. stamp .. sub(value, 26)
        til, before = read('<dd', value, 10)
      end
      changes[n + 1], changes[n + 2] = ARGV[arg + i], new
      n = n + 2
      if ends < til then
        earlier[#earlier + 1] = string.format('%.0f', ends)
        earlier[#earlier + 1] = sheet_of(value) or ARGV[arg + i]
      end
      if before ~= ends then
        for m = 1, memberships do
          local more = moved[a[at + 2 + m]]
          note(more, before, -1)
          note(more, ends, 1)
        end
      end
    else
      letters[i] = value and sub(value, 1, 1) ~= 'R' and 'S' or 'U'
    end
    at = at + 3 + memberships
  end
  for i = 1, limits do
    if next(moved[i]) then
      local spot = count + i
      changes[n + 1], changes[n + 2] = ARGV[arg + spot], recounted(under_way(state[spot], now), moved[i], now)
      n = n + 2
    end
  end
  if n > 0 then call('HSET', KEYS[key], unpack(changes, 1, n)) end
  if #earlier > 0 then call('ZADD', KEYS[key + 1], 'LT', unpack(earlier)) end
  answer[tenant] = table.concat(letters)
  key, arg = key + 2, arg + count + limits
end
return answer
