-- What the brokers know of one provider's keys.
--
-- KEYS[1]: the prefix of its keys, with its hash tag. The keys:
--   r  hash: `v` the version; else by key and model: until when it rests (ms; 0: it is well) and why
--   p<key>  who tries the key alone, for as long as he may
-- ARGV[1] = 'tell', the version that the caller knows, then triples: key and model, for how long it rests (ms; -1: it is well), why.
--   Answers the version, and if it is another one: the time, and all of r.
-- ARGV[1] = 'try', the key, the model, the caller, for how long (ms). Answers 1 if he may: nobody else tries it, and it does not rest
--   again as the caller would have heard by now.
local call = redis.call
local prefix = KEYS[1]
-- Longer than any rest.
local KEPT = 7200000

local time = call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local hash = prefix .. 'r'

local function claim(field) return prefix .. 'p' .. string.match(field, '^[^\n]*') end

-- Until when it rests; 0 if nothing is known of it.
local function rests(field)
  local known = call('HGET', hash, field)
  return known and tonumber(string.match(known, '^%d+')) or 0, known
end

if ARGV[1] == 'try' then
  local key = claim(ARGV[2])
  local holder = call('GET', key)
  if holder and holder ~= ARGV[4] then return 0 end
  if rests(ARGV[2] .. '\n') > now or rests(ARGV[2] .. '\n' .. ARGV[3]) > now then return 0 end
  call('SET', key, ARGV[4], 'PX', ARGV[5])
  return 1
end

for i = 3, #ARGV, 3 do
  local field, span, why = ARGV[i], tonumber(ARGV[i + 1]), ARGV[i + 2]
  local ends = span < 0 and 0 or now + span
  if ends > 0 then
    local before, known = rests(field)
    if before > ends then ends, why = before, string.match(known, '%a+$') end
  end
  call('HSET', hash, field, string.format('%d %s', ends, why))
  call('DEL', claim(field))
end
if #ARGV > 2 then
  call('HSET', hash, 'v', time[1] .. '.' .. time[2])
  call('PEXPIRE', hash, KEPT)
end
local version = call('HGET', hash, 'v') or ''
if version == ARGV[2] then return {version} end
local answer = {version, now}
for _, text in ipairs(call('HGETALL', hash)) do answer[#answer + 1] = text end
return answer
