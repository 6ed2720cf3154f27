-- Reserves for many requests, of one tenant or of several: each of them against all its limits at once, or not at all.
--
-- KEYS: per tenant its state, its leases.
-- ARGV: the program; then per tenant the fields of the reservations, one after the other; those of the subjects, of the concurrency
--   limits' counters; of several requests that of their sheet; and what is kept of its reservations, unless it was sent ahead.
-- The program: generation, tenants, plans;
--   per plan: layout, durable, limits, sweep after (-1 never), longest rolling window;
--     per limit: kind (1 period, 2 rolling), id, cap, then start and end, or length and grain;
--   per tenant: requests, subjects, concurrency limits, shapes, whether the clock is checked, whether what is kept was sent ahead; then
--   per subject: its plan; per limit the sum of what all requests ask of it (-1 untouched);
--   per concurrency limit: cap, how many requests count in it;
--   per shape (what a request touches): the lease (ms) and its grain; how many cells, and each: a limit of a subject, counted
--     through all subjects, then the concurrency limits;
--   per request its shape, if there is more than one.
-- What is kept: per reservation the length of the rest (four bytes), its field, where in the sheet's bases its own begins (four bytes),
--   and what record.rs calls sent; at its end what all requests up to this one ask of each of its shape's cells. Several together are kept as they came, in a sheet; see sheets.lua. Sent ahead, it is in the sheet's
--   second field already, by a command of the same transaction, and goes again if there is no such sheet in the end.
-- Answers now; then per tenant: one letter per request, or nothing if all are admitted; per shape used and held of each cell before;
--   what belongs to the letters D and P; and if one is N each subject's value before:
--   A admitted   N refused   D a duplicate (its value, its sheet's two fields)   S settled before   C cold: counters must be loaded
--   T the clock is outside a period   P a counter is in a later period (its start)   G the generation is over
--   X the number is another sheet's: nothing was done
-- Every amount and every cap is at most 2^53 - 1, and so is every sum that is compared: doubles are exact.
--
-- What a script costs is the number of its calls into C and of the strings that it makes. So the program and each subject are read
-- and written by one call each, and where all requests fit together, nobody looks at each.
local call, read, write, sub, rep, floor = redis.call, struct.unpack, struct.pack, string.sub, string.rep, math.floor
local huge = math.huge
local time = call('TIME')
local now = time[1] * 1000 + floor(time[2] / 1000)
local a = {read('<' .. rep('d', #ARGV[1] / 8), ARGV[1])}
local gen, moment = a[1], write('<d', now)
local head, no_sheet = 'R' .. write('<d', gen), write('<d', 0)
local answer, answers = {moment}, 1
local at, key, arg, argv, formats = 4, 1, 1, ARGV, {}
-- One for all tenants, and so only what is written for this one may be read: a table that grows costs more than what it is for. For
-- the same reason they have places from the beginning.
local used, held, room = {nil, nil, nil, nil, nil, nil, nil, nil}, {nil, nil, nil, nil, nil, nil, nil, nil}, {nil, nil, nil, nil, nil, nil, nil, nil}
local sum, whose = {nil, nil, nil, nil, nil, nil, nil, nil}, {nil, nil, nil, nil, nil, nil, nil, nil}
local from, to = {nil, nil, nil, nil, nil, nil, nil, nil}, {nil, nil, nil, nil, nil, nil, nil, nil}
local plan, plan_of, all = {nil, nil, nil, nil}, {nil, nil, nil, nil}, {nil, nil, nil, nil}
local changed, counters = {nil, nil, nil, nil}, {nil, nil}
local shape, base, ends, tally = {nil, nil}, {nil, nil}, {nil, nil}, {nil, nil}
local numbers_of = {nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil}
local changes = {nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil}
for p = 1, a[3] do plan[p], at = at, at + 5 + 5 * a[at + 2] end
for _ = 1, a[2] do
  local requests, subjects, concurrents, shapes = a[at], a[at + 1], a[at + 2], a[at + 3]
  local check, ahead, fits = a[at + 4] == 1, a[at + 5] == 1, true
  at, arg = at + 6, arg + 1
  -- Of the reservations, the subjects, the concurrency limits and the sheet.
  local ids, fields, last, common, records = argv[arg], nil, requests + subjects + concurrents, nil, nil
  if requests == 1 then
    fields = {ids}
  else
    fields, last = {read(rep('c17', requests), ids)}, last + 1
  end
  for f = requests + 1, last do fields[f], arg = argv[arg + 1], arg + 1 end
  if requests > 1 then
    common = fields[last]
    records = 'b' .. sub(common, 2)
  end
  local state = call('HMGET', KEYS[key], unpack(fields, 1, last))
  for r = 1, requests do if state[r] then fits = false end end
  local another = common and state[last]
  -- What is kept; Lua's copy is of use only where nothing went ahead.
  local sent
  if not ahead then sent, arg = argv[arg + 1], arg + 1 end

  -- What stands in each cell now, as if time had passed: nothing is written yet.
  local bad, later, more, cells = {}, {}, {}, 0
  for s = 1, subjects do
    local o = plan[a[at]]
    local limits, sweep, blob, values, adopted, why = a[o + 2], a[o + 3], state[requests + s], nil, false, 'C'
    formats[limits] = formats[limits] or '<dddd' .. rep('ddddddd', limits)
    plan_of[s], all[s], changed[s] = o, false, false
    if blob then
      -- Shorter than the format: of another layout.
      if #blob >= 32 + 56 * limits then
        values = {read(formats[limits], blob)}
        adopted = values[1] ~= gen
        if values[1] > gen then
          values, why = nil, 'G'
        elseif values[2] ~= a[o] or (adopted and a[o + 1] == 1) then
          values = nil
        else
          if values[3] < 0 then sweep = -1 elseif sweep >= 0 and values[3] > sweep then sweep = values[3] end
          if adopted then
            -- What was held in a former generation counts again when it is announced again.
            for v = 8, 1 + 7 * limits, 7 do values[v] = 0 end
          end
        end
      end
    elseif a[o + 1] == 0 then
      values, blob = {gen, a[o], sweep, limits}, ''
      for i = 1, limits do
        local v = 7 * i - 2
        values[v], values[v + 1] = a[o + 5 * i + 1], a[o + 5 * i] == 2 and -1 or 0
        for j = v + 2, v + 6 do values[j] = 0 end
      end
    end
    if values then
      values[1], all[s] = gen, values
      if sweep >= 0 and a[o + 4] > 0 and now + 2 * a[o + 4] > sweep then sweep = now + 2 * a[o + 4] end
      values[3] = sweep
      if adopted and values[4] > limits then
        -- Counters of a former plan. A new generation doesn't know what they held.
        changed[s] = -1
      end
      local queue_at = 33 + 56 * values[4]
      for i = 1, limits do
        -- The places of the limit in its plan, and of its counter among the values: id, period or -1 - buckets in the queue,
        -- spent, held, version or end of the oldest bucket in the queue, end and size of the newest bucket.
        local c, v, l, total = cells + i, 7 * i - 2, o + 5 * i, a[at + i]
        sum[c], whose[c], used[c], held[c], from[c] = total, s, 0, 0, false
        local p, q = a[l + 3], a[l + 4]
        if a[l] == 1 then
          if total >= 0 then
            local period = values[v + 1]
            if now >= q or (now < p and check) then
              bad[c], room[c], fits = 'T', -huge, false
            elseif period > p then
              bad[c], room[c], fits, later[c] = 'P', -huge, false, period
            else
              if period < p then values[v + 1], values[v + 2], values[v + 3], values[v + 4] = p, 0, 0, 0 end
              local holds = values[v + 3]
              local uses = values[v + 2] + holds
              used[c], held[c], room[c] = uses, holds, a[l + 2] - uses
              if total > room[c] and total > 0 then fits = false end
            end
          end
        else
          local n, start = -1 - values[v + 1], queue_at
          queue_at = queue_at + 16 * n
          to[c] = queue_at - 1
          if total >= 0 then
            local spent = values[v + 2]
            while n > 0 and values[v + 4] + p <= now do
              local _, size = read('<dd', blob, start)
              spent, n, start = spent - size, n - 1, start + 16
              changed[s] = changed[s] or 1
              if n > 0 then values[v + 4] = read('<d', blob, start) end
            end
            if n == 0 and values[v + 5] + p <= now then spent, values[v + 6] = spent - values[v + 6], 0 end
            values[v + 1], values[v + 2] = -1 - n, spent
            local holds = values[v + 3]
            used[c], held[c], room[c] = spent, holds < spent and holds or spent, a[l + 2] - spent
            if total > room[c] and total > 0 then fits = false end
          end
          from[c] = start
        end
      end
    else
      fits = false
      for c = cells + 1, cells + limits do
        bad[c], room[c], used[c], held[c], from[c] = why, -huge, 0, 0, false
      end
    end
    cells, at = cells + limits, at + 1 + limits
  end
  for i = 1, concurrents do
    local c = cells + i
    counters[i] = under_way(state[requests + subjects + i], now)
    local live = counters[i].live
    used[c], held[c], room[c], sum[c] = live, live, a[at] - live, a[at + 1]
    if sum[c] > room[c] then fits = false end
    at = at + 2
  end
  local letters_at = answers + 1
  answers = letters_at
  answer[letters_at] = ''
  for h = 1, shapes do
    ends[h], tally[h] = lease_end(now, a[at], a[at + 1]), 0
    at = at + 2
    local n = a[at]
    for j = 1, n do
      local c = a[at + j]
      numbers_of[2 * j - 1], numbers_of[2 * j] = used[c], held[c]
    end
    shape[h], base[h] = at, write('<' .. rep('dd', n), unpack(numbers_of, 1, 2 * n))
    answer[answers + h] = base[h]
    at = at + 1 + n
  end
  answers = answers + shapes

  local leases, n, taken, written = {}, 0, sum, plan_of
  if another then
    answer[letters_at] = rep('X', requests)
  elseif fits then
    -- All of them have one of a few values.
    local values, first = {}, ends[1]
    for h = 1, shapes do
      if ends[h] < first then first = ends[h] end
    end
    if requests == 1 then
      local h = shapes > 1 and a[at] or 1
      local til = write('<dd', ends[h], ends[h])
      changes[1], changes[2] = ids, head .. til .. no_sheet .. moment .. sub(sent, 26) .. base[h]
      n, tally[h] = 2, 1
      leases[1], leases[2] = string.format('%d', first), ids
    else
      local number = sub(common, 2)
      for h = 1, shapes do values[h] = head .. write('<dd', ends[h], ends[h]) .. number end
      if shapes == 1 then
        local value = values[1]
        for r = 1, requests do
          changes[n + 1], changes[n + 2] = fields[r], value
          n = n + 2
        end
        tally[1] = requests
      else
        for r = 1, requests do
          local h = a[at + r - 1]
          changes[n + 1], changes[n + 2] = fields[r], values[h]
          n, tally[h] = n + 2, tally[h] + 1
        end
      end
      changes[n + 1] = common
      changes[n + 2] = moment .. write('<d', requests) .. ids .. table.concat(base, '', 1, shapes)
      n = n + 2
      if not ahead then
        changes[n + 1], changes[n + 2] = records, sent
        n = n + 2
      end
      leases[1], leases[2] = string.format('%d', first), common
    end
  else
    local letters, skipped, asked, skips, refused, spot = {}, {}, {}, false, false, 1
    taken, written = {}, {}
    if ahead then
      sent = call('HGET', KEYS[key], records)
      call('HDEL', KEYS[key], records)
    end
    for r = 1, requests do
      local h, id, record, letter, where = shapes > 1 and a[at + r - 1] or 1, fields[r], state[r], 'A', nil
      local from_byte = spot
      spot = spot + 4 + read('<I4', sent, spot)
      local o = shape[h]
      local touched = a[o]
      local amounts = {read('<' .. rep('d', touched), sent, spot - 8 * touched)}
      for j = 1, touched do
        local c, so_far = a[o + j], amounts[j]
        amounts[j], asked[c] = so_far - (asked[c] or 0), so_far
      end
      if record then
        letter = sub(record, 1, 1) == 'R' and 'D' or 'S'
      else
        for j = 1, touched do
          where = a[o + j]
          local amount = amounts[j]
          if amount > room[where] then
            if bad[where] then
              letter = bad[where]
              break
            end
            if amount > 0 then letter = 'N' end
          end
        end
      end
      if letter == 'A' then
        local before = base[h]
        if skips then
          -- What is kept counts on everyone before having been admitted.
          for j = 1, touched do
            local c = a[o + j]
            local less = skipped[c] or 0
            numbers_of[2 * j - 1], numbers_of[2 * j] = used[c] - less, held[c] - less
          end
          before = write('<' .. rep('dd', touched), unpack(numbers_of, 1, 2 * touched))
        end
        for j = 1, touched do
          local c, amount = a[o + j], amounts[j]
          room[c], taken[c] = room[c] - amount, (taken[c] or 0) + amount
          if c <= cells then written[whose[c]] = plan_of[whose[c]] end
        end
        local til = write('<dd', ends[h], ends[h])
        changes[n + 1] = id
        changes[n + 2] = head .. til .. no_sheet .. moment .. sub(sent, from_byte + 25, spot - 1) .. before
        leases[n + 1], leases[n + 2] = string.format('%d', ends[h]), id
        n, tally[h] = n + 2, tally[h] + 1
      else
        skips = true
        for j = 1, touched do
          local c = a[o + j]
          skipped[c] = (skipped[c] or 0) + amounts[j]
        end
        if letter == 'D' then
          local theirs, their_records = sheet_of(record)
          answer[answers + 1] = record
          answer[answers + 2] = theirs and call('HGET', KEYS[key], theirs) or ''
          answer[answers + 3] = theirs and call('HGET', KEYS[key], their_records) or ''
          answers = answers + 3
        elseif letter == 'P' then
          answers = answers + 1
          answer[answers] = write('<d', later[where])
        elseif letter == 'N' then
          refused = true
        end
      end
      letters[r] = letter
    end
    answer[letters_at] = table.concat(letters)
    if refused then
      for s = 1, subjects do answer[answers + s] = state[requests + s] or '' end
      answers = answers + subjects
    end
  end

  if shapes > 1 then at = at + requests end
  if n > 0 then
    local first = 0
    for s = 1, subjects do
      local o = plan_of[s]
      local limits = a[o + 2]
      if written[s] then
        local values, blob, change = all[s], state[requests + s] or '', changed[s]
        local entries, extra = values[4], ''
        local queues = 33 + 56 * entries
        for i = 1, limits do
          local c, v, l = first + i, 7 * i - 2, o + 5 * i
          local amount = taken[c]
          if amount and amount > 0 then
            values[v + 3] = values[v + 3] + amount
            if a[l] == 2 then
              values[v + 2] = values[v + 2] + amount
              local bucket = (floor(now / a[l + 4]) + 1) * a[l + 4]
              if bucket <= values[v + 5] then
                values[v + 6] = values[v + 6] + amount
              else
                if values[v + 6] > 0 then
                  if values[v + 1] == -1 then values[v + 4] = values[v + 5] end
                  values[v + 1], more[c], change = values[v + 1] - 1, write('<dd', values[v + 5], values[v + 6]), change or 1
                end
                values[v + 5], values[v + 6] = bucket, amount
              end
            end
          end
        end
        local queue_at = queues
        if entries > limits then
          if change == -1 then
            values[4], queue_at = limits, #blob + 1
          else
            extra = sub(blob, 33 + 56 * limits, queues - 1)
          end
        end
        local queue
        if change then
          local parts, last_at = {}, queues
          for i = 1, limits do
            local c = first + i
            if from[c] then
              parts[#parts + 1] = sub(blob, from[c], to[c])
              parts[#parts + 1] = more[c]
              last_at = to[c] + 1
            end
          end
          if queue_at == queues then parts[#parts + 1] = sub(blob, last_at) end
          queue = table.concat(parts)
        else
          queue = sub(blob, queues)
        end
        changes[n + 1] = fields[requests + s]
        changes[n + 2] = write(formats[limits], unpack(values, 1, 4 + 7 * limits)) .. extra .. queue
        n = n + 2
      end
      first = first + limits
    end
    for i = 1, concurrents do
      local more = {}
      for h = 1, shapes do
        local o = shape[h]
        for j = 1, a[o] do
          if a[o + j] == cells + i and tally[h] > 0 then note(more, ends[h], tally[h]) end
        end
      end
      if next(more) then
        changes[n + 1] = fields[requests + subjects + i]
        changes[n + 2] = recounted(counters[i], more, now)
        n = n + 2
      end
    end
    call('HSET', KEYS[key], unpack(changes, 1, n))
    call('ZADD', KEYS[key + 1], unpack(leases))
  end
  key = key + 2
end
return answer
