-- Applies settlements that Postgres has decided, of one tenant or of several, where all those of a tenant are held in this
-- generation: then only sums count. For the others nothing is done; settle.lua does it.
--
-- KEYS: per tenant its state, its leases, then the concurrency sets of all of them.
-- ARGV: the program; then per tenant the fields of the reservations, the fields of the subjects.
-- The program: generation, tenants; per tenant: settlements, subjects, concurrency sets; per settlement: what it is (0 released,
--   1 estimated, 2 final); per subject: counters; per counter: limit, kind (1 total, 2 sum, 3 rolling), period or bucket, reserved,
--   actual, then total and version, or the window's length.
-- Answers per tenant one digit per settlement, 1 if its lease had ended; nothing if it was not done.
local call, read, write, sub, rep = redis.call, struct.unpack, struct.pack, string.sub, string.rep
local time = call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local a = {read('<' .. rep('d', #ARGV[1] / 8), ARGV[1])}
local gen, stamp = a[1], write('<d', now)
local head = 'R' .. write('<d', gen)
local on_time = {[0] = 'Sr0' .. stamp, 'Se0' .. stamp, 'Sf0' .. stamp}
local answer, at, key, arg = {}, 3, 1, 1
for tenant = 1, a[2] do
  local count, subjects, sets = a[at], a[at + 1], a[at + 2]
  at = at + 3
  local state = call('HMGET', KEYS[key], unpack(ARGV, arg + 1, arg + count + subjects))
  local held = true
  for i = 1, count do
    local record = state[i]
    if not record or sub(record, 1, 9) ~= head then
      held = false
      break
    end
  end
  local endings, changes, n = at, {}, 0
  at = at + count
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
                  if before + more > 0 then
                    values[v + 2] = values[v + 2] + more
                    queue = sub(queue, 1, spot - 1) .. write('<dd', ends, before + more) .. sub(queue, spot + 16)
                  else
                    values[v + 2] = values[v + 2] - before
                    queue = sub(queue, 1, spot - 1) .. sub(queue, spot + 16)
                    buckets = buckets - 1
                  end
                elseif place < newest then
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
      changes[n + 1] = ARGV[arg + count + s]
      changes[n + 2] = write(format, unpack(values, 1, 4 + 7 * entries)) .. (queue or sub(blob, queues))
      n = n + 2
    end
    at = at + 7 * counters
  end
  if held then
    local late, scores = {}, nil
    if call('ZCOUNT', KEYS[key + 1], '-inf', now) > 0 then
      scores = call('ZMSCORE', KEYS[key + 1], unpack(ARGV, arg + 1, arg + count))
    end
    for i = 1, count do
      local id, ending = ARGV[arg + i], a[endings + i - 1]
      changes[n + 1] = id
      if scores and scores[i] and tonumber(scores[i]) <= now then
        changes[n + 2], late[i] = sub(on_time[ending], 1, 2) .. '1' .. stamp, '1'
      else
        changes[n + 2], late[i] = on_time[ending], '0'
      end
      n = n + 2
    end
    call('HSET', KEYS[key], unpack(changes, 1, n))
    for i = 1, sets + 1 do call('ZREM', KEYS[key + i], unpack(ARGV, arg + 1, arg + count)) end
    answer[tenant] = table.concat(late)
  else
    answer[tenant] = ''
  end
  key, arg = key + 2 + sets, arg + count + subjects
end
return answer
