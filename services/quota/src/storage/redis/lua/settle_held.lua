-- Applies settlements that Postgres has decided, of one tenant or of several, where all those of a tenant are held in this
-- generation: then only sums count. For the others nothing is done; settle.lua does it.
--
-- KEYS: per tenant its state.
-- ARGV: the program; then per tenant the fields of the reservations, one after the other; those of the subjects, of the concurrency
--   limits' counters.
-- The program: generation, tenants; per tenant: settlements, subjects, concurrency limits, kinds of settlements; per kind: what it is
--   (0 released, 1 estimated, 2 final), in how many limits its reservations count, and which; per settlement its kind, if there is
--   more than one; per subject: counters; per counter: limit, kind (1 total, 2 sum, 3 rolling), period or bucket, reserved,
--   actual, then total and version, or the window's length.
-- Answers per tenant one digit per settlement, 1 if its lease had ended; nothing if it was not done.
local call, read, write, sub, rep, floor = redis.call, struct.unpack, struct.pack, string.sub, string.rep, math.floor
local argv = ARGV
local time = call('TIME')
local now = time[1] * 1000 + floor(time[2] / 1000)
local a = {read('<' .. rep('d', #ARGV[1] / 8), ARGV[1])}
local gen, stamp = a[1], write('<d', now)
local head, grown = 'R' .. write('<d', gen), write('<d', -1)
local on_time = {[0] = 'Sr0' .. stamp, 'Se0' .. stamp, 'Sf0' .. stamp}
local answer, at, arg = {}, 3, 1
-- One for all tenants, with places from the beginning: a table that grows costs more than what it is for.
local changes = {nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil}
for tenant = 1, a[2] do
  local count, subjects, limits, kinds = a[at], a[at + 1], a[at + 2], a[at + 3]
  at, arg = at + 4, arg + 1
  local fields, last = {argv[arg]}, count + subjects + limits
  if count > 1 then fields = {read(rep('c17', count), argv[arg])} end
  for f = count + 1, last do fields[f], arg = argv[arg + 1], arg + 1 end
  local state = call('HMGET', KEYS[tenant], unpack(fields, 1, last))
  local kind, counts = {}, {}
  for k = 1, kinds do kind[k], counts[k], at = at, {}, at + 2 + a[at + 1] end
  local held, late, n = true, nil, 0
  -- Those of one sheet have one value, and nearly always are of one kind: a run of them is looked at once.
  local of, before, mark, run, til = 1, nil, nil, 0, nil
  local several, now_of = kinds > 1, 1
  for i = 1, count do
    local value = state[i]
    if several then now_of = a[at + i - 1] end
    if value ~= before or now_of ~= of then
      -- Of what has grown the handle may be from before.
      if not value or sub(value, 1, 9) ~= head or sub(value, 26, 33) == grown then
        held = false
        break
      end
      if run > 0 then counts[of][til] = (counts[of][til] or 0) - run end
      local ends
      of, before, run = now_of, value, 0
      ends, til = read('<dd', value, 10)
      mark = on_time[a[kind[of]]]
      if ends <= now then
        late = late or rep('0', i - 1)
        mark = sub(mark, 1, 2) .. '1' .. stamp
      end
    end
    run = run + 1
    if late then late = late .. sub(mark, 3, 3) end
    changes[n + 1], changes[n + 2] = fields[i], mark
    n = n + 2
  end
  if run > 0 then counts[of][til] = (counts[of][til] or 0) - run end
  if several then at = at + count end
  for s = 1, subjects do
    local counters, blob, values, format, queues, queue = a[at], state[count + s], nil, nil, nil, nil
    at = at + 1
    if held and blob then
      local entries = read('<d', blob, 25)
      format, queues = '<dddd' .. rep('ddddddd', entries), 33 + 56 * entries
      values = {read(format, blob)}
      -- Its counters know nothing of this generation.
      if values[1] ~= gen then held = false end
      for c = at, at + 7 * counters - 1, 7 do
        local limit, kind, place, v = a[c], a[c + 1], a[c + 2], 5
        while v <= 7 * entries and values[v] ~= limit do v = v + 7 end
        if v <= 7 * entries and (values[v + 1] < 0) == (kind == 3) then
          if kind ~= 3 then
            if values[v + 1] < place then
              -- Counted while the store was away: the first of a new period.
              values[v + 1], values[v + 2], values[v + 3], values[v + 4] = place, 0, 0, 0
            end
            if values[v + 1] == place then
              local holds = values[v + 3] - a[c + 3]
              values[v + 3] = holds > 0 and holds or 0
              if kind == 2 then
                values[v + 2] = values[v + 2] + a[c + 4]
                if values[v + 2] > 9007199254740991 then values[v + 2] = 9007199254740991 end
              elseif a[c + 6] > values[v + 4] then
                values[v + 2], values[v + 4] = a[c + 5], a[c + 6]
              end
            end
          else
            local holds, more = values[v + 3] - a[c + 3], a[c + 4] - a[c + 3]
            values[v + 3] = holds > 0 and holds or 0
            -- A bucket that has left the window took what it had with it: there is nothing to return and nothing to charge.
            if more ~= 0 and place + a[c + 5] > now then
              local newest, size = values[v + 5], values[v + 6]
              if place == newest then
                if size + more < 0 then more = -size end
                values[v + 6], values[v + 2] = size + more, values[v + 2] + more
              else
                -- In the queue, which begins after those of the counters before: the first bucket that ends at or after its own.
                queue = queue or sub(blob, queues)
                local first, buckets = 1, -1 - values[v + 1]
                for e = 5, v - 7, 7 do
                  if values[e + 1] < 0 then first = first + 16 * (-1 - values[e + 1]) end
                end
                local past = first + 16 * buckets
                local spot = past
                while spot > first and read('<d', queue, spot - 16) >= place do spot = spot - 16 end
                local ends, before
                if spot < past then ends, before = read('<dd', queue, spot) end
                if more > 0 then
                  values[v + 2] = values[v + 2] + more
                  if place > newest then
                    -- The newest one goes into the queue; this is the newest now.
                    if size > 0 then
                      queue = sub(queue, 1, past - 1) .. write('<dd', newest, size) .. sub(queue, past)
                      buckets = buckets + 1
                    end
                    values[v + 5], values[v + 6] = place, more
                  elseif ends == place then
                    queue = sub(queue, 1, spot - 1) .. write('<dd', ends, before + more) .. sub(queue, spot + 16)
                  else
                    queue = sub(queue, 1, spot - 1) .. write('<dd', place, more) .. sub(queue, spot)
                    buckets = buckets + 1
                  end
                elseif ends then
                  -- Where even the oldest is later it may have left, before the clock went back.
                  if spot == first and ends ~= place then
                    more = 0
                  elseif before + more > 0 then
                    values[v + 2] = values[v + 2] + more
                    queue = sub(queue, 1, spot - 1) .. write('<dd', ends, before + more) .. sub(queue, spot + 16)
                  else
                    values[v + 2] = values[v + 2] - before
                    queue = sub(queue, 1, spot - 1) .. sub(queue, spot + 16)
                    buckets = buckets - 1
                  end
                elseif buckets > 0 and place < newest then
                  if size + more < 0 then more = -size end
                  values[v + 6], values[v + 2] = size + more, values[v + 2] + more
                end
                values[v + 1] = -1 - buckets
                if buckets > 0 then values[v + 4] = read('<d', queue, first) end
              end
            end
          end
        end
      end
      changes[n + 1] = fields[count + s]
      changes[n + 2] = write(format, unpack(values, 1, 4 + 7 * entries)) .. (queue or sub(blob, queues))
      n = n + 2
    end
    at = at + 7 * counters
  end
  if held then
    for i = 1, limits do
      local more = {}
      for k = 1, kinds do
        local o = kind[k] + 1
        for j = 1, a[o] do
          if a[o + j] == i then
            for until_then, calls in pairs(counts[k]) do note(more, until_then, calls) end
          end
        end
      end
      if next(more) then
        local spot = count + subjects + i
        changes[n + 1], changes[n + 2] = fields[spot], recounted(under_way(state[spot], now), more, now)
        n = n + 2
      end
    end
    call('HSET', KEYS[tenant], unpack(changes, 1, n))
    answer[tenant] = late or rep('0', count)
  else
    answer[tenant] = ''
  end
end
return answer
