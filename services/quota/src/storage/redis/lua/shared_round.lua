-- One message of a process to the account of a limit across tenants: what it gave out, what ended, what it keeps and wants.
-- The arithmetic is that of domain/shared/account.rs; a property test holds the two together.
--
-- KEYS: the account, a hash: `h` generation, period (0: rolling), spent, held, version, began, buckets (then end and size of each), and of a
--     period whose total is in Postgres what has been committed as far as its ends have been told here (spent may be ahead);
--   `p` per process 16 bytes, slice, end of its lease, seq, period, whether it is recalled; `r` and an id: a reservation that it
--   holds, `R` generation, amount, place, expires, or that was settled, `S` time, whether that was estimated, place.
-- ARGV: the program; the process; the fields of the reservations that were given out, then of those that ended; then the processes
--   that they were given out by, in the same order.
-- The program: generation, rolling, durable, cap, start and end or length and grain, lease (ms), remember (ms), seq, keep, ask, least,
--   ahead, leaving, given out, ended; per reservation given out: amount, place, age (-1 none), reserved at; per ended one: reserved, actual,
--   before, ending (0 released, 1 estimated, 2 final), while which generation that was written just now (0 if before), place,
--   reserved at, total, version.
-- Answers one letter: C cold, T outside the period (now), P in a later one (start), O overtaken; else D, then now, kept, granted, used,
--   certain (of it, what surely counts nothing twice), held, free, others, lost, lost until, recalled, and the end and size of each bucket.
local call, read, write, sub, floor, min, max = redis.call, struct.unpack, struct.pack, string.sub, math.floor, math.min, math.max
local GRACE, MOST = 3600000, 9007199254740991
local time = call('TIME')
local now = time[1] * 1000 + floor(time[2] / 1000)
local program, me = ARGV[1], ARGV[2]
local gen, rolling, durable, cap, from, to, lease, remember, seq, keep, ask, least, ahead, leaving, uses, ends, pos =
  read('<dddddddddddddddd', program)
rolling, durable = rolling == 1, durable == 1
local values = call('HMGET', KEYS[1], 'h', 'p', unpack(ARGV, 3, 2 + uses + ends))

local h = {gen = gen, period = 0, spent = 0, told = 0, held = 0, version = 0, began = now}
local at, size = {}, {}
local holders, order = {}, {}
local fresh = true
if values[1] then
  local n, from_byte
  h.gen, h.period, h.spent, h.held, h.version, h.began, n, from_byte = read('<ddddddd', values[1])
  for i = 1, n do at[i], size[i], from_byte = read('<dd', values[1], from_byte) end
  h.told = from_byte < #values[1] and read('<d', values[1], from_byte) or h.spent
  fresh = h.gen ~= gen
end
if fresh then
  if durable then return 'C' end
  h.gen, h.held, h.began = gen, 0, now
elseif values[2] then
  for i = 1, #values[2], 56 do
    local one = {id = sub(values[2], i, i + 15)}
    one.slice, one.til, one.seq, one.period, one.recalled = read('<ddddd', values[2], i + 16)
    holders[one.id] = one
    order[#order + 1] = one
  end
end
if not rolling then
  -- The clock may have gone back over the end of a period: what has begun stays begun.
  if now >= to or (now < from and h.period ~= from) then return 'T' .. write('<d', now) end
  if h.period > from then return 'P' .. write('<d', h.period) end
end
if holders[me] and seq <= holders[me].seq then return 'O' end

-- What time has taken.
local length, grain = from, to
if rolling then
  local gone = 0
  while gone < #at and at[gone + 1] + length <= now do
    gone = gone + 1
    h.spent = h.spent - size[gone]
  end
  if gone > 0 then
    local n = #at
    for i = 1, n do at[i], size[i] = at[i + gone], size[i + gone] end
  end
elseif h.period < from then
  h.period, h.spent, h.told, h.held, h.version = from, 0, 0, 0, 0
end
local stay = {}
for _, one in ipairs(order) do
  if rolling then
    if one.til + length <= now then one.slice = 0 end
  elseif one.period ~= from then
    one.slice = 0
  end
  if one.slice > 0 or one.til > now then stay[#stay + 1] = one else holders[one.id] = nil end
end
order = stay

local function insert(place, amount)
  if amount == 0 then return end
  h.spent = h.spent + amount
  local i = #at + 1
  while i > 1 and at[i - 1] >= place do i = i - 1 end
  if at[i] == place then
    size[i] = size[i] + amount
  else
    table.insert(at, i, place)
    table.insert(size, i, amount)
  end
end

local function add(place, difference)
  if rolling then
    if place + length <= now then return end
    if difference > 0 then return insert(place, difference) end
    local i = #at
    while i > 0 and at[i] > place do i = i - 1 end
    -- One that has left the window took what it had with it, also where the clock went back since.
    if at[i] == place then
      local left = max(0, size[i] + difference)
      h.spent = h.spent - size[i] + left
      size[i] = left
      if left == 0 then
        table.remove(at, i)
        table.remove(size, i)
      end
    end
  elseif place == from then
    local sum = durable and 'told' or 'spent'
    h[sum] = max(0, min(MOST, h[sum] + difference))
  end
end

local function counts(of, place) return of == gen and (h.period == 0 or place == h.period) end

-- The slice of a process that has died is smaller by what turns out to have been given out of it.
local function found(holder, amount, reserved_at)
  local one = holders[holder]
  if one and one.til <= now and reserved_at >= h.began then one.slice = max(0, one.slice - amount) end
end

local known, changes = {}, {KEYS[1]}
local function set(field, value)
  known[field] = value
  changes[#changes + 1], changes[#changes + 2] = field, value
end
for i = 1, uses + ends do
  local field = ARGV[2 + i]
  if known[field] == nil then known[field] = values[2 + i] end
end

for i = 1, uses do
  local amount, place, age, reserved_at
  amount, place, age, reserved_at, pos = read('<dddd', program, pos)
  local field = ARGV[2 + i]
  local record = known[field]
  if not record or (sub(record, 1, 1) == 'R' and read('<d', record, 2) ~= gen) then
    local expires
    if rolling then
      if age >= 0 then place = (floor((now - age) / grain) + 1) * grain end
      if place + length > now then insert(place, amount) end
      expires = place + length + GRACE
    elseif place == from then
      expires = to + GRACE
    end
    if expires then
      h.held = min(MOST, h.held + amount)
      if age < 0 then found(ARGV[2 + uses + ends + i], amount, reserved_at) end
      set(field, 'R' .. write('<dddd', gen, amount, place, expires))
    end
  end
end

for i = 1, ends do
  local reserved, actual, before, ending, written_in, place, reserved_at, total, version
  reserved, actual, before, ending, written_in, place, reserved_at, total, version, pos = read('<ddddddddd', program, pos)
  local field = ARGV[2 + uses + i]
  local record = known[field]
  local mark = record and sub(record, 1, 1)
  local settled, charged = false, place
  if mark == 'R' then
    local of, amount
    of, amount, charged = read('<ddd', record, 2)
    if counts(of, charged) then h.held = max(0, h.held - amount) end
    if of == gen or not durable then
      add(charged, rolling and actual - amount or actual)
    elseif written_in == gen then
      add(charged, actual - before)
    end
    settled = true
  elseif mark == 'S' then
    local when, estimated = read('<dd', record, 2)
    -- Those of former versions have no place.
    if #record > 17 then charged = read('<d', record, 18) end
    if estimated == 1 and ending == 2 then
      if not durable or written_in == gen or (written_in == 0 and when >= h.began) then add(charged, actual - before) end
      set(field, 'S' .. write('<ddd', when, 0, charged))
    end
  elseif now - reserved_at < remember then
    if not durable or reserved_at >= h.began then
      add(place, actual)
    elseif written_in == gen then
      add(place, actual - before)
    end
    found(ARGV[2 + uses + ends + uses + i], reserved, reserved_at)
    settled = true
  end
  if settled then set(field, 'S' .. write('<ddd', now, ending == 1 and 1 or 0, charged)) end
  if not rolling and durable and place == from and version > h.version then h.spent, h.version = total, version end
end

-- What the process keeps and gets.
local mine = holders[me]
local kept = max(0, min(keep, mine and mine.slice or 0))
local recalled = mine and mine.recalled or 0
local others, lost, lost_until, alive = 0, 0, 0, 1
for _, one in ipairs(order) do
  if one ~= mine then
    if one.til > now then
      others, alive = others + one.slice, alive + 1
    elseif one.slice > 0 then
      lost = lost + one.slice
      lost_until = max(lost_until, rolling and one.til + length or to)
    end
  end
end
local used = rolling and h.spent or h.spent + h.held
local in_period = durable and not rolling
local certain = in_period and max(h.spent, min(h.told, h.spent) + h.held) or used
local free = cap - used - others - lost - kept
-- What is too little for any request stays where others can add to it.
local granted = free < least and 0 or max(0, min(ask, free))
if granted == ask then
  granted = granted + max(0, min(ahead, floor((free - granted) / (2 * alive))))
else
  for _, one in ipairs(order) do
    if one ~= mine and one.til > now and one.slice > 0 then one.recalled = 1 end
  end
end
local parts = {}
for _, one in ipairs(order) do
  if one ~= mine and (one.slice > 0 or one.til > now) then
    parts[#parts + 1] = one.id .. write('<ddddd', one.slice, one.til, one.seq, one.period, one.recalled)
  end
end
if leaving == 0 or kept > 0 then
  parts[#parts + 1] = me .. write('<ddddd', kept + granted, now + lease, seq, h.period, 0)
end
local buckets = {}
for i = 1, #at do buckets[i] = write('<dd', at[i], size[i]) end
buckets = table.concat(buckets)
changes[#changes + 1] = 'h'
changes[#changes + 1] = write('<ddddddd', h.gen, h.period, h.spent, h.held, h.version, h.began, #at) .. buckets .. (in_period and write('<d', h.told) or '')
changes[#changes + 1] = 'p'
changes[#changes + 1] = table.concat(parts)
call('HSET', unpack(changes))
return 'D' .. write('<ddddddddddd', now, kept, granted, used, certain, rolling and min(h.held, used) or h.held, free - granted, others, lost,
  lost_until, recalled) .. buckets
