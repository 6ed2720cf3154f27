-- Calls under way, counted by when their leases end; put before the scripts that need it.
--
-- A field of the state for each counter of a concurrency limit: `live, passed, next` and then pairs `end, calls` in the order of
-- their ends; all doubles. Every held reservation is in the pair of the time until which it counts, whether that has passed or not, so
-- nothing is ever counted up and down that could drift. `live` are the calls of the pairs after now: it is right as long as now is
-- in [passed, next), where no lease ends.
local NEVER = 9007199254740991

-- Reads a counter as it stands at a time.
local function under_way(value, now)
  if not value then return {live = 0, passed = 0, next = NEVER, pairs = ''} end
  local live, passed, next = struct.unpack('<ddd', value)
  local counter = {live = live, passed = passed, next = next, pairs = string.sub(value, 25)}
  if now < passed or now >= next then
    counter.live, counter.passed, counter.next = 0, 0, NEVER
    for at = 1, #counter.pairs, 16 do
      local ends, calls = struct.unpack('<dd', counter.pairs, at)
      if ends <= now then
        counter.passed = ends
      else
        if counter.next == NEVER then counter.next = ends end
        counter.live = counter.live + calls
      end
    end
  end
  return counter
end

-- The value of a counter whose calls have changed by so many at each of these ends.
local function recounted(counter, changes, now)
  local ends, change = next(changes)
  local last = #counter.pairs - 15
  if change > 0 and ends > now and next(changes, ends) == nil then
    -- Nearly always: some more in the newest pair, or in one after it.
    local newest, calls = 0, 0
    if last > 0 then newest, calls = struct.unpack('<dd', counter.pairs, last) end
    if ends >= newest then
      local kept = ends == newest and string.sub(counter.pairs, 1, last - 1) or counter.pairs
      if ends ~= newest then calls = 0 end
      return struct.pack('<ddd', counter.live + change, counter.passed, math.min(counter.next, ends))
        .. kept .. struct.pack('<dd', ends, calls + change)
    end
  end
  local order, calls = {}, {}
  for at = 1, #counter.pairs, 16 do
    local known, count = struct.unpack('<dd', counter.pairs, at)
    order[#order + 1], calls[known] = known, count
  end
  for until_then, more in pairs(changes) do
    if not calls[until_then] then order[#order + 1], calls[until_then] = until_then, 0 end
    calls[until_then] = calls[until_then] + more
  end
  table.sort(order)
  local parts, live, passed, following = {}, 0, 0, NEVER
  for _, known in ipairs(order) do
    local count = calls[known]
    if count > 0 then
      parts[#parts + 1] = struct.pack('<dd', known, count)
      if known <= now then
        passed = known
      else
        if following == NEVER then following = known end
        live = live + count
      end
    end
  end
  return struct.pack('<ddd', live, passed, following) .. table.concat(parts)
end

-- Notes that a call counts until a time, or not any more.
local function note(changes, ends, calls)
  local sum = (changes[ends] or 0) + calls
  changes[ends] = sum ~= 0 and sum or nil
end

-- A lease's end: rounded up to its grain, so that many end together.
local function lease_end(now, lease, grain)
  return math.ceil((now + lease) / grain) * grain
end
