-- Applies settlements that Postgres has decided, of one tenant. Doing it again changes nothing.
--
-- KEYS: the tenant's state.
-- ARGV: the program; the fields of the subjects, of the reservations, of the concurrency limits' counters.
-- The program: subjects, settlements, concurrency limits; per settlement: in how many of these it counts, and which; what it is
--   (0 released, 1 estimated, 2 final), while which generation that was written just now (0 if before), when it was reserved (-1 if
--   nobody has said), counters; per counter: subject (1-based), limit, kind (1 total, 2 sum, 3 rolling), period or bucket, reserved,
--   actual, actual before (of an estimate), then total and version, or the window's length and whether it is durable.
-- Answers one digit per settlement: 1 if its lease had ended, 2 if it is held and nobody has said where, or where it was before it
--   has grown: then nothing was done.
--
-- Totals are set, not added to, and only by a newer version: neither a repeated settlement nor one that was overtaken by another
-- process's can count twice. Sums and buckets are changed once, while the record says that the reservation is held.
local now = now_millis()
local program = ARGV[1]
local subjects, settlements, limits, pos = read('<ddd', program)
local values = call('HMGET', KEYS[1], unpack(ARGV, 2))
local ids = {unpack(ARGV, 2 + subjects, 1 + subjects + settlements)}

local states = {}
local function state(subject)
  local known = states[subject]
  if known == nil then
    local value = values[subject]
    known = value and parse(value) or false
    states[subject] = known
  end
  return known
end

local changes, marks, under, late, tombs, unknown = {}, {}, {}, {}, {[0] = 'r', 'e', 'f'}, false
for i = 1, limits do under[i] = {} end
for i = 1, settlements do
  local memberships, is, written_in, reserved_at, counters
  memberships, pos = read('<d', program, pos)
  local counts = pos
  is, written_in, reserved_at, counters, pos = read('<dddd', program, pos + 8 * memberships)
  local record = marks[ids[i]] or values[subjects + i]
  local mark = record and sub(record, 1, 1)
  local held = mark == 'R'
  local gen = held and read('<d', record, 2)
  -- An estimate that the actual amounts now replace.
  local replaced = mark == 'S' and is == 2 and sub(record, 2, 2) == 'e'
  local has_grown = held and read('<d', record, 26) == -1
  local blind = reserved_at < 0 or (has_grown and read('<d', record, 34) ~= reserved_at)
  if held and blind then
    late[i] = '2'
  elseif held then
    local ends, til = read('<dd', record, 10)
    late[i] = ends <= now and '1' or '0'
    for m = 0, memberships - 1 do note(under[read('<d', program, counts + 8 * m)], til, -1) end
  else
    late[i] = mark == 'S' and sub(record, 3, 3) or '0'
  end
  for _ = 1, counters do
    local subject, limit, kind, place, reserved, actual, before, total, version
    subject, limit, kind, place, reserved, actual, before, total, version, pos = read('<ddddddddd', program, pos)
    local counted = not (held and blind) and state(subject)
    local entry = counted and counted.by_id[limit]
    -- Whoever is loading this counter may have read Postgres before this settlement was there: it must read again.
    if not entry and not (held and blind) and (kind == 1 or (kind == 3 and version == 1)) then unknown = true end
    if entry and (entry.queue ~= nil) == (kind == 3) then
      if kind == 3 then
        if held then
          if gen == counted.gen then entry.held = clamp(entry.held - reserved) end
          -- What Postgres knows was read anew in another generation, without what was held.
          if (gen == counted.gen or version == 0) and place + total > now then adjust(entry, place, actual - reserved) end
        elseif (replaced or (written_in == counted.gen and version == 1 and not record)) and place + total > now then
          -- Where the mark is lost the buckets were read from Postgres, which had the estimate; and if that was for a later
          -- generation than the one that this was written in, this as well.
          adjust(entry, place, actual - before)
        end
      else
        if entry.period < place and (kind == 1 or held) then
          -- Counted while the store was away: the first of a new period.
          entry.period, entry.spent, entry.held, entry.version = place, 0, 0, 0
        end
        if entry.period == place then
          if held and gen == counted.gen then entry.held = clamp(entry.held - reserved) end
          if kind == 1 then
            if version > entry.version then entry.spent, entry.version = total, version end
          elseif held then
            entry.spent = clamp(entry.spent + actual)
          elseif replaced then
            entry.spent = clamp(entry.spent + actual - before)
          end
        end
      end
    end
  end
  if (held and not blind) or replaced or not record then
    changes[#changes + 1] = ids[i]
    marks[ids[i]] = 'S' .. tombs[is] .. late[i] .. write('<d', now)
    changes[#changes + 1] = marks[ids[i]]
  end
end

for subject, counted in pairs(states) do
  if counted then
    changes[#changes + 1] = ARGV[1 + subject]
    changes[#changes + 1] = build(counted)
  end
end
for i, more in ipairs(under) do
  if next(more) then
    changes[#changes + 1] = ARGV[1 + subjects + settlements + i]
    changes[#changes + 1] = recounted(under_way(values[subjects + settlements + i], now), more, now)
  end
end
if unknown then call('HDEL', KEYS[1], '!') end
if #changes > 0 then call('HSET', KEYS[1], unpack(changes)) end
return table.concat(late)
