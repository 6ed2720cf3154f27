-- Reads held reservations.
--
-- KEYS: the tenant's state. ARGV: members of its leases.
-- Answers reservation, value, ... of those that are held; and the sheets that their records are in: number, head, records, ...
local held, sheets = {}, {}
for _, member in ipairs(ARGV) do
  local fields = fields_of(KEYS[1], member)
  if #fields > 0 then
    for i, value in ipairs(redis.call('HMGET', KEYS[1], unpack(fields))) do
      if is_held(value, member) then tell(KEYS[1], fields[i], value, held, sheets) end
    end
  end
end
return {held, sheets}
