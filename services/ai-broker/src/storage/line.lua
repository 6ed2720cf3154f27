-- One line of waiting calls, shared by all brokers: the same rules as domain/queue, whose Line is the model of this.
--
-- KEYS[1]: the prefix of the line's keys, with its hash tag. The keys:
--   s  hash: arrivals, blocked, width (none: any), last, interval, classes; per class n<p> members, v<p> virtual time
--   c  hash by ticket: priority, start, arrival, since, deadline, cost, fewest ahead (doubles), owner (16), tenant (16)
--   o<p> sorted set: ready calls by virtual start, then arrival   g<p> the same calls by when they began to wait
--   a  sorted set: calls that have gone on to the provider, by their deadline     t  those that have the turn, by when they lose it
--   d  sorted set: deadlines     e<p> hash by tenant: where its last call's virtual service ends     n  brokers by their lease's end
-- ARGV: now (0: the store's clock), capacity, aging, turn, most turns, the caller's lease, the caller; then operations:
--   J ticket tenant priority cost waited patience   A ticket (admitted)   S ticket (served)   B ticket wait (blocked)
--   L ticket (leaves)   P ticket (asks for its standing)
-- Spans, not instants: only the store's clock counts.
-- Answers: now, wake at (-1: nothing waits), one letter per J (w waits, f full), the caller's tickets that have the turn, and for each
--   P: ahead and ETA (-1 unknown), or -2 if it does not wait.
local call, pack, read, sub, floor = redis.call, struct.pack, struct.unpack, string.sub, math.floor
local prefix = KEYS[1]
local now, capacity, aging, turn = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local most, lease, caller = tonumber(ARGV[5]), tonumber(ARGV[6]), ARGV[7]
if now == 0 then
  local time = call('TIME')
  now = time[1] * 1000 + floor(time[2] / 1000)
end

local function keep(key, life) call('PEXPIRE', prefix .. key, life) end

-- The state, written back at the end.
local state, changed = {}, {}
local stored = call('HGETALL', prefix .. 's')
for i = 1, #stored, 2 do state[stored[i]] = stored[i + 1] end
local function number(field) return tonumber(state[field] or 0) end
local function set(field, value) state[field], changed[field] = value, true end

local classes = {}
for p in string.gmatch(state.classes or '', '[^,]+') do classes[#classes + 1] = p end

-- Calls that were looked at: none is read twice, and those that changed are written once, at the end.
local seen, altered = {}, {}
-- Those that wait: who has gone on takes no place in the line.
local size = call('HLEN', prefix .. 'c') - call('ZCARD', prefix .. 'a')

local function find(ticket)
  if seen[ticket] ~= nil then return seen[ticket] or nil end
  local record = call('HGET', prefix .. 'c', ticket)
  if not record then return nil end
  local c = {ticket = ticket}
  seen[ticket] = c
  c.priority, c.start, c.arrival, c.since, c.deadline, c.cost, c.ahead = read('<ddddddd', record)
  c.owner, c.tenant, c.class = sub(record, 57, 72), sub(record, 73, 88), string.format('%d', c.priority)
  return c
end

local function store(c) seen[c.ticket], altered[c.ticket] = c, c end

-- Positive doubles of this form sort as bytes.
local function member(c) return pack('>d', c.arrival) .. c.ticket end

local function make_ready(c)
  call('ZADD', prefix .. 'o' .. c.class, c.start, member(c))
  call('ZADD', prefix .. 'g' .. c.class, c.since, c.ticket)
end

-- There is room for a call that has not gone on yet: the line moves.
local function moves(c, had_turn)
  if had_turn and state.width then set('width', number('width') + 1) end
  set('v' .. c.class, math.max(number('v' .. c.class), c.start))
  local last = number('last')
  if last > 0 then
    local sample = math.max(0, now - last) * 1000
    local interval = tonumber(state.interval or -1)
    local step = (sample - interval) / 8
    -- Towards zero, as integers are divided.
    step = step < 0 and math.ceil(step) or floor(step)
    set('interval', interval < 0 and sample or interval + step)
  end
  set('last', now)
end

-- The time in which nobody waits says nothing of the pace.
local function pause()
  if size == 0 then set('last', 0) end
end

local function put_back(c)
  if call('ZREM', prefix .. 't', c.ticket) > 0 then
    make_ready(c)
  elseif call('ZREM', prefix .. 'a', c.ticket) > 0 then
    size = size + 1
    make_ready(c)
  end
end

local function set_aside(c, set_of, till)
  call('ZREM', prefix .. 'o' .. c.class, member(c))
  call('ZREM', prefix .. 'g' .. c.class, c.ticket)
  call('ZADD', prefix .. set_of, till, c.ticket)
end

local function join(ticket, tenant, priority, cost, since, deadline)
  local known = find(ticket)
  if known then
    -- Another broker may have taken it over.
    if known.owner ~= caller then
      known.owner = caller
      store(known)
    end
    return 'w'
  end
  if size >= capacity then return 'f' end
  size = size + 1
  local class = string.format('%d', priority)
  if not state['n' .. class] then
    classes[#classes + 1] = class
    set('classes', table.concat(classes, ','))
  end
  set('n' .. class, number('n' .. class) + 1)
  set('arrivals', number('arrivals') + 1)
  local ends = tonumber(call('HGET', prefix .. 'e' .. class, tenant) or 0)
  local start = math.max(ends, number('v' .. class))
  call('HSET', prefix .. 'e' .. class, tenant, start + math.max(cost, 1))
  local c = {ticket = ticket, tenant = tenant, owner = caller, priority = priority, class = class, start = start}
  c.arrival, c.since, c.deadline, c.cost, c.ahead = number('arrivals'), since, deadline, cost, 9007199254740991
  store(c)
  make_ready(c)
  call('ZADD', prefix .. 'd', deadline, ticket)
  return 'w'
end

local function forget_class(class)
  call('DEL', prefix .. 'e' .. class)
  state['n' .. class], state['v' .. class] = nil, nil
  call('HDEL', prefix .. 's', 'n' .. class, 'v' .. class)
  changed['n' .. class], changed['v' .. class] = nil, nil
  for i, other in ipairs(classes) do
    if other == class then table.remove(classes, i) break end
  end
  set('classes', table.concat(classes, ','))
end

local function remove(c, served)
  seen[c.ticket], altered[c.ticket] = false, nil
  call('HDEL', prefix .. 'c', c.ticket)
  call('ZREM', prefix .. 'd', c.ticket)
  if call('ZREM', prefix .. 't', c.ticket) > 0 then
    size = size - 1
    if served then moves(c, true) end
  elseif call('ZREM', prefix .. 'a', c.ticket) == 0 then
    size = size - 1
    if served then moves(c, false) end
    call('ZREM', prefix .. 'o' .. c.class, member(c))
    call('ZREM', prefix .. 'g' .. c.class, c.ticket)
  end
  local left = number('n' .. c.class) - 1
  set('n' .. c.class, left)
  if left == 0 then
    forget_class(c.class)
  elseif call('HLEN', prefix .. 'e' .. c.class) > 2 * left + 16 then
    -- A tenant whose last call's service ends before the virtual time begins there anyway.
    local ends = call('HGETALL', prefix .. 'e' .. c.class)
    for i = 1, #ends, 2 do
      if tonumber(ends[i + 1]) <= number('v' .. c.class) then call('HDEL', prefix .. 'e' .. c.class, ends[i]) end
    end
  end
  pause()
end

-- Brokers that say nothing any more, and their calls.
call('ZADD', prefix .. 'n', now + lease, caller)
for _, gone in ipairs(call('ZRANGEBYSCORE', prefix .. 'n', '-inf', now)) do
  call('ZREM', prefix .. 'n', gone)
  for _, ticket in ipairs(call('HKEYS', prefix .. 'c')) do
    local c = find(ticket)
    if c.owner == gone then remove(c, false) end
  end
end

local joined, asked = {}, {}
for i = 8, #ARGV do
  local what, ticket, rest = sub(ARGV[i], 1, 1), sub(ARGV[i], 2, 17), sub(ARGV[i], 18)
  if what == 'J' then
    local priority, cost, waited, patience = read('<dddd', rest, 17)
    joined[#joined + 1] = join(ticket, sub(rest, 1, 16), priority, cost, now - waited, now + patience)
  elseif what == 'P' then
    asked[#asked + 1] = ticket
  else
    local c = find(ticket)
    if what == 'B' then
      set('blocked', math.max(number('blocked'), now + read('<d', rest)))
      set('width', 1)
    end
    if c and what == 'S' then remove(c, true) end
    if c and what == 'L' then remove(c, false) end
    if c and what == 'B' then put_back(c) end
    if c and what == 'A' then
      if call('ZREM', prefix .. 't', ticket) > 0 then
        moves(c, true)
        call('ZADD', prefix .. 'a', c.deadline, ticket)
        size = size - 1
      elseif not call('ZSCORE', prefix .. 'a', ticket) then
        moves(c, false)
        set_aside(c, 'a', c.deadline)
        size = size - 1
      end
      pause()
    end
  end
end

for _, ticket in ipairs(call('ZRANGEBYSCORE', prefix .. 'd', '-inf', now)) do remove(find(ticket), false) end
for _, set_of in ipairs({'t', 'a'}) do
  for _, ticket in ipairs(call('ZRANGEBYSCORE', prefix .. set_of, '-inf', now)) do put_back(find(ticket)) end
end

-- The classes with somebody ready, the one that goes first in front.
local function by_rank()
  local ranks = {}
  for _, class in ipairs(classes) do
    local oldest = call('ZRANGE', prefix .. 'g' .. class, 0, 0, 'WITHSCORES')
    if oldest[1] then
      ranks[#ranks + 1] = {class = class, rank = tonumber(class) * aging + now - oldest[2], priority = tonumber(class)}
    end
  end
  table.sort(ranks, function(a, b)
    if a.rank ~= b.rank then return a.rank > b.rank end
    return a.priority > b.priority
  end)
  return ranks
end

local turns = call('ZCARD', prefix .. 't')
most = math.min(most, tonumber(state.width or most))
while now >= number('blocked') and turns < most do
  local first = by_rank()[1]
  if not first then break end
  local c = find(sub(call('ZRANGE', prefix .. 'o' .. first.class, 0, 0)[1], 9))
  set_aside(c, 't', now + turn)
  turns = turns + 1
end

local mine, has_turn = {}, {}
for _, ticket in ipairs(call('ZRANGE', prefix .. 't', 0, -1)) do
  has_turn[ticket] = true
  if find(ticket).owner == caller then mine[#mine + 1] = ticket end
end

local ranks = #asked > 0 and by_rank() or {}
local sizes, standings = {}, {}
local some_have_gone_on = #asked > 0 and call('ZCARD', prefix .. 'a') > 0
for _, ticket in ipairs(asked) do
  local c = find(ticket)
  if not c then
    standings[#standings + 1] = pack('<dd', -2, -1)
  else
    local ahead = turns
    local gone_on = some_have_gone_on and call('ZSCORE', prefix .. 'a', ticket)
    if has_turn[ticket] then
      ahead = 0
    else
      for _, rank in ipairs(ranks) do
        if rank.class == c.class then break end
        sizes[rank.class] = sizes[rank.class] or call('ZCARD', prefix .. 'o' .. rank.class)
        ahead = ahead + sizes[rank.class]
      end
      -- One that has gone on is where it would be.
      local place = call('ZRANK', prefix .. 'o' .. c.class, member(c))
      if not place then
        call('ZADD', prefix .. 'o' .. c.class, c.start, member(c))
        place = call('ZRANK', prefix .. 'o' .. c.class, member(c))
        call('ZREM', prefix .. 'o' .. c.class, member(c))
      end
      ahead = ahead + place
    end
    if ahead < c.ahead then
      c.ahead = ahead
      store(c)
    end
    local interval, eta = tonumber(state.interval or -1), -1
    if interval >= 0 then
      local wait = math.max(number('blocked'), tonumber(gone_on or 0)) - now
      eta = math.max(0, wait, floor((interval + 999) / 1000) * c.ahead)
    end
    standings[#standings + 1] = pack('<dd', c.ahead, eta)
  end
end

local wake = -1
local function sooner(at) if wake < 0 or at < wake then wake = at end end
for _, rank in ipairs(by_rank()) do sooner(number('blocked')) break end
for key, least in pairs({t = number('blocked'), a = number('blocked'), d = 0}) do
  local first = call('ZRANGE', prefix .. key, 0, 0, 'WITHSCORES')
  if first[2] then sooner(math.max(tonumber(first[2]), least)) end
end

for ticket, c in pairs(altered) do
  local numbers = pack('<ddddddd', c.priority, c.start, c.arrival, c.since, c.deadline, c.cost, c.ahead)
  call('HSET', prefix .. 'c', ticket, numbers .. c.owner .. c.tenant)
end
for field in pairs(changed) do call('HSET', prefix .. 's', field, state[field]) end
-- A line that nobody asks for any more goes by itself.
local life = 10 * lease + 3600000
for _, key in ipairs({'s', 'c', 'a', 't', 'd', 'n'}) do keep(key, life) end
for _, class in ipairs(classes) do
  for _, key in ipairs({'o', 'g', 'e'}) do keep(key .. class, life) end
end

return {pack('<dd', now, wake), table.concat(joined), table.concat(mine), table.concat(standings)}
