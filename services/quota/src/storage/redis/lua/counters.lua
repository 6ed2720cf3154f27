-- Reads and writes the counters of one subject; the layout is described in domain/state.rs. Put before the scripts that need it.
local call, read, write, sub = redis.call, struct.unpack, struct.pack, string.sub

local function now_millis()
  local time = call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- Reads the value of one subject. A queue then has all buckets, the newest one included.
local function parse(blob)
  local state = {list = {}, by_id = {}}
  local count, at
  state.gen, state.layout, state.sweep, count, at = read('<dddd', blob)
  local queue_at = 33 + 56 * count
  for i = 1, count do
    local id, a, spent, held, version, ends, size
    id, a, spent, held, version, ends, size, at = read('<ddddddd', blob, at)
    local entry = {id = id, period = a, spent = spent, held = held, version = version}
    if a < 0 then
      local n = -1 - a
      entry.queue = sub(blob, queue_at, queue_at + 16 * n - 1)
      if size > 0 then entry.queue = entry.queue .. write('<dd', ends, size) end
      queue_at = queue_at + 16 * n
    end
    state.list[i] = entry
    state.by_id[id] = entry
  end
  return state
end

-- The value of one subject.
local function build(state)
  local parts, queues = {write('<dddd', state.gen, state.layout, state.sweep, #state.list)}, {}
  for i, entry in ipairs(state.list) do
    local a, version, ends, size = entry.period, entry.version, 0, 0
    local queue = entry.queue
    if queue then
      if #queue > 0 then
        ends, size = read('<dd', queue, #queue - 15)
        queue = sub(queue, 1, #queue - 16)
      end
      a = -1 - #queue / 16
      version = #queue > 0 and read('<d', queue) or 0
      queues[#queues + 1] = queue
    end
    parts[i + 1] = write('<ddddddd', entry.id, a, entry.spent, entry.held, version, ends, size)
  end
  return table.concat(parts) .. table.concat(queues)
end

-- The place (1-based, in bytes) of the first bucket of a queue that ends at or after `bucket`; beyond the queue if there is none.
local function seek(queue, bucket)
  local at = #queue + 1
  while at > 1 and read('<d', queue, at - 16) >= bucket do at = at - 16 end
  return at
end

-- Counts an amount in its own bucket, wherever that is in the queue.
local function insert(entry, bucket, amount)
  if amount == 0 then return end
  local at = seek(entry.queue, bucket)
  local rest, size = at, 0
  if at <= #entry.queue then
    local ends, before = read('<dd', entry.queue, at)
    if ends == bucket then rest, size = at + 16, before end
  end
  entry.spent = entry.spent + amount
  entry.queue = sub(entry.queue, 1, at - 1) .. write('<dd', bucket, size + amount) .. sub(entry.queue, rest)
end

-- Changes what was counted in `bucket`, as long as it is inside the window: a bucket that has left it took what it had with it, so
-- there is nothing to return and nothing to charge. What was counted while a later bucket was the newest stands in the next one. But
-- where even the oldest is later it may have left, before the clock went back: then nothing is returned.
local function adjust(entry, bucket, difference)
  if difference > 0 then return insert(entry, bucket, difference) end
  local at = seek(entry.queue, bucket)
  if difference == 0 or at > #entry.queue then return end
  local ends, size = read('<dd', entry.queue, at)
  if at == 1 and ends ~= bucket then return end
  local new = math.max(0, size + difference)
  entry.spent = entry.spent + new - size
  local middle = new > 0 and write('<dd', ends, new) or ''
  entry.queue = sub(entry.queue, 1, at - 1) .. middle .. sub(entry.queue, at + 16)
end

-- Sums may grow beyond what a double counts exactly only by commits of more than was reserved; they stay at the largest one.
local function clamp(value)
  if value > 9007199254740991 then return 9007199254740991 end
  if value < 0 then return 0 end
  return value
end
