-- Puts counters in place that were read from Postgres, and lays out anew those of another plan.
--
-- KEYS: the tenant's state. ARGV: the fence; the program; the fields of the subjects.
-- The program: generation, subjects; per subject: layout, sweep after, entries; per entry: limit, rolling, durable,
--   then period, total and version, or the number of buckets, and of each its end and amount.
-- Answers 1, or 0 if the fence is gone: then the store was emptied after Postgres was read; or if the generation is over.
local program = ARGV[2]
local gen, subjects, pos = read('<dd', program)
local values = call('HMGET', KEYS[1], '!', unpack(ARGV, 3))
if values[1] ~= ARGV[1] then return 0 end
local changes = {}
for subject = 1, subjects do
  local layout, sweep, entries
  layout, sweep, entries, pos = read('<ddd', program, pos)
  local old = values[1 + subject] and parse(values[1 + subject]) or {gen = -1, sweep = 0, list = {}, by_id = {}}
  -- Whoever asks knows of an older generation only.
  if old.gen > gen then return 0 end
  local same = old.gen == gen
  if old.sweep < 0 then sweep = -1 elseif sweep >= 0 then sweep = math.max(sweep, old.sweep) end
  local new, taken = {gen = gen, layout = layout, sweep = sweep, list = {}}, {}
  for i = 1, entries do
    local id, rolling, durable
    id, rolling, durable, pos = read('<ddd', program, pos)
    local known, entry = old.by_id[id], nil
    if rolling == 1 then
      local buckets, spent, n = {}, 0
      n, pos = read('<d', program, pos)
      for b = 1, n do
        local ends, amount
        ends, amount, pos = read('<dd', program, pos)
        spent = spent + amount
        buckets[b] = write('<dd', ends, amount)
      end
      entry = {id = id, period = -1, spent = spent, held = 0, version = 0, queue = table.concat(buckets)}
      -- What the store has counted itself in this generation knows more than Postgres does.
      if known and known.queue and (same or durable == 0) then
        entry.spent, entry.queue = known.spent, known.queue
        if same then entry.held = known.held end
      end
    else
      local period, total, version
      period, total, version, pos = read('<ddd', program, pos)
      entry = {id = id, period = period, spent = total, held = 0, version = version}
      if known and not known.queue and known.period == period then
        if same then entry.held = known.held end
        -- A settlement that came after Postgres was read is newer, whatever the generation.
        if known.version > version or (known.version == version and (same or durable == 0)) then
          entry.spent, entry.version = known.spent, known.version
        end
      end
    end
    new.list[i] = entry
    taken[id] = true
  end
  -- Counters of a former plan stay as long as something is held in them.
  if same then
    for _, entry in ipairs(old.list) do
      if not taken[entry.id] and entry.held > 0 then new.list[#new.list + 1] = entry end
    end
  end
  changes[#changes + 1] = ARGV[2 + subject]
  changes[#changes + 1] = build(new)
end
if #changes > 0 then call('HSET', KEYS[1], unpack(changes)) end
return 1
