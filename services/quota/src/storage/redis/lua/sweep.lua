-- Removes what can't matter any more from a part of one tenant's state: subjects whose windows have all passed, concurrency limits
-- that nobody is under way in, the marks of settlements that are older than any repeated request, and records that went ahead of
-- a script that the server had lost: both halves of a sheet are written in one step, so one alone is nobody's.
--
-- KEYS: the tenant's state. ARGV: the cursor, how many to look at, for how long (ms) marks are kept.
-- Answers the next cursor and how many fields are left. A fence alone guards nothing and goes, too.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local page = redis.call('HSCAN', KEYS[1], ARGV[1], 'COUNT', ARGV[2])
local gone = {}
for i = 1, #page[2], 2 do
  local field, value = page[2][i], page[2][i + 1]
  local tag = string.sub(field, 1, 1)
  if tag == 'r' then
    if string.sub(value, 1, 1) == 'S' and struct.unpack('<d', value, 4) + ARGV[3] <= now then gone[#gone + 1] = field end
  elseif tag == 'c' then
    if #value == 24 then gone[#gone + 1] = field end
  elseif tag == 'b' then
    if redis.call('HEXISTS', KEYS[1], 'h' .. string.sub(field, 2)) == 0 then gone[#gone + 1] = field end
  elseif tag ~= '!' and tag ~= 'h' then
    local sweep = struct.unpack('<d', value, 17)
    if sweep >= 0 and sweep <= now then gone[#gone + 1] = field end
  end
end
for from = 1, #gone, 1000 do redis.call('HDEL', KEYS[1], unpack(gone, from, math.min(from + 999, #gone))) end
local left = redis.call('HLEN', KEYS[1])
if left == 1 and redis.call('HEXISTS', KEYS[1], '!') == 1 then left = left - redis.call('DEL', KEYS[1]) end
return {page[1], left}
