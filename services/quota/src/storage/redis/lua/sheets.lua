-- Held reservations; put before the scripts that look for their records.
--
-- A held reservation's field is `R, generation, end of its lease, time until which it counts as under way, sheet`, the numbers as
-- doubles. With sheet 0 the record follows; with sheet -1, too, and it may have grown. Else it is in a sheet, which are two fields of the
-- state: `h` and the number has what the reservations of one call have in common (`reserved at, reservations`, their fields, the
-- bases), `b` and the number what was sent with them (each as its length of four bytes, the reservation's field, and the rest of the record).
-- A lease is found by its member of the leases: the reservation's field, or its sheet's `h`. A member's score is never later than
-- the end of any lease that it stands for; those that were settled or lengthened are noticed when it is due.

-- The reservations of a member of the leases.
local function fields_of(state, member)
  if string.sub(member, 1, 1) == 'r' then return {member} end
  local head = redis.call('HGET', state, member)
  if not head then return {} end
  local count = struct.unpack('<d', head, 9)
  local fields = {struct.unpack('<' .. string.rep('c17', count), head, 17)}
  -- Where the reading ended.
  fields[count + 1] = nil
  return fields
end

-- Whether a reservation is held and, if it is looked for in a sheet, by that sheet.
local function is_held(value, member)
  if not value or string.sub(value, 1, 1) ~= 'R' then return false end
  return string.sub(member, 1, 1) == 'r' or string.sub(value, 26, 33) == string.sub(member, 2)
end

-- The two fields of the sheet that a held reservation's record is in; none if it is in no sheet.
local function sheet_of(value)
  local number = string.sub(value, 26, 33)
  if struct.unpack('<d', number) <= 0 then return nil end
  return 'h' .. number, 'b' .. number
end

-- Adds what is to be known of a held reservation to an answer, which has each sheet once.
local function tell(state, field, value, held, sheets)
  held[#held + 1] = field
  held[#held + 1] = value
  local head, records = sheet_of(value)
  if head and not sheets[head] then
    sheets[head] = true
    local fields = redis.call('HMGET', state, head, records)
    sheets[#sheets + 1] = string.sub(head, 2)
    sheets[#sheets + 1] = fields[1] or ''
    sheets[#sheets + 1] = fields[2] or ''
  end
end
