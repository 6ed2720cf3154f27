-- Removes from a part of an account what can't matter any more: reservations whose period or window is long over, and marks of
-- settlements that are older than any repeated request.
--
-- KEYS: the account. ARGV: the cursor, how many to look at, for how long (ms) marks are kept.
-- Answers the next cursor and how many fields are left.
local read, write = struct.unpack, struct.pack
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local header = redis.call('HGET', KEYS[1], 'h')
local gen, period, spent, held
if header then gen, period, spent, held = read('<dddd', header) end
local page = redis.call('HSCAN', KEYS[1], ARGV[1], 'COUNT', ARGV[2])
local gone = {}
for i = 1, #page[2], 2 do
  local field, value = page[2][i], page[2][i + 1]
  if #field == 17 and string.sub(field, 1, 1) == 'r' then
    if string.sub(value, 1, 1) == 'S' then
      if read('<d', value, 2) + ARGV[3] <= now then gone[#gone + 1] = field end
    else
      local of, amount, place, expires = read('<dddd', value, 2)
      if expires <= now then
        gone[#gone + 1] = field
        if header and of == gen and (period == 0 or place == period) then held = math.max(0, held - amount) end
      end
    end
  end
end
if header then redis.call('HSET', KEYS[1], 'h', write('<dddd', gen, period, spent, held) .. string.sub(header, 33)) end
for from = 1, #gone, 1000 do redis.call('HDEL', KEYS[1], unpack(gone, from, math.min(from + 999, #gone))) end
return {page[1], redis.call('HLEN', KEYS[1])}
