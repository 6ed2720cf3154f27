-- Applies settlements that Postgres has decided, of one tenant. Doing it again changes nothing.
--
-- KEYS: the tenant's state, its leases, then the concurrency sets of all of them.
-- ARGV: the program; the fields of the subjects; then the fields of the reservations.
-- The program: subjects, settlements, concurrency sets; per settlement: what it is (0 released, 1 estimated, 2 final), whether that
--   was written just now, counters (-1 if nobody has said which); per counter: subject (1-based), limit, kind (1 total, 2 sum, 3 rolling), period or bucket,
--   reserved, actual, actual before (of an estimate), then total and version, or the window's length and whether it is durable.
-- Answers one digit per settlement: 1 if its lease had ended, 2 if it is held and nobody has said where: then nothing was done.
--
-- Totals are set, not added to, and only by a newer version: neither a repeated settlement nor one that was overtaken by another
-- process's can count twice. Sums and buckets are changed once, while the record says that the reservation is held.
local now = now_millis()
local program = ARGV[1]
local subjects, settlements, sets, pos = read('<ddd', program)
local values = call('HMGET', KEYS[1], unpack(ARGV, 2))
local ids = {unpack(ARGV, 2 + subjects)}
local scores = call('ZMSCORE', KEYS[2], unpack(ids))

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

local changes, ended, late, tombs, unknown = {}, {}, {}, {[0] = 'r', 'e', 'f'}, false
for i = 1, settlements do
  local is, applied, counters
  is, applied, counters, pos = read('<ddd', program, pos)
  local record = values[subjects + i]
  local mark = record and sub(record, 1, 1)
  local held = mark == 'R'
  local gen = held and read('<d', record, 2)
  -- An estimate that the actual amounts now replace.
  local replaced = mark == 'S' and is == 2 and sub(record, 2, 2) == 'e'
  local blind = counters < 0
  if held and blind then
    late[i] = '2'
  elseif held then
    late[i] = (scores[i] and tonumber(scores[i]) <= now) and '1' or '0'
  else
    late[i] = mark == 'S' and sub(record, 3, 3) or '0'
  end
  for _ = 1, counters do
    local subject, limit, kind, place, reserved, actual, before, total, version
    subject, limit, kind, place, reserved, actual, before, total, version, pos = read('<ddddddddd', program, pos)
    local counted = state(subject)
    local entry = counted and counted.by_id[limit]
    -- Whoever is loading this counter may have read Postgres before this settlement was there: it must read again.
    if not entry and (kind == 1 or (kind == 3 and version == 1)) then unknown = true end
    if entry and (entry.queue ~= nil) == (kind == 3) then
      if kind == 3 then
        if held then
          if gen == counted.gen then entry.held = clamp(entry.held - reserved) end
          -- What Postgres knows was read anew in another generation, without what was held.
          if (gen == counted.gen or version == 0) and place + total > now then adjust(entry, place, actual - reserved) end
        elseif (replaced or (applied == 1 and version == 1 and not record)) and place + total > now then
          -- Where the mark is lost the buckets were read from Postgres, which had the estimate.
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
  if late[i] ~= '2' then ended[#ended + 1] = ids[i] end
  if (held and not blind) or replaced or not record then
    changes[#changes + 1] = ids[i]
    changes[#changes + 1] = 'S' .. tombs[is] .. late[i] .. write('<d', now)
  end
end

for subject, counted in pairs(states) do
  if counted then
    changes[#changes + 1] = ARGV[1 + subject]
    changes[#changes + 1] = build(counted)
  end
end
if unknown then call('HDEL', KEYS[1], '!') end
if #changes > 0 then call('HSET', KEYS[1], unpack(changes)) end
if #ended > 0 then
  for i = 2, 2 + sets do call('ZREM', KEYS[i], unpack(ended)) end
end
return table.concat(late)
