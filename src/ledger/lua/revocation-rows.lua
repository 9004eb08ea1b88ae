#!lua flags=no-writes
-- A page of the leases of this partition that an emergency matched, in the order in which they were found, with what became of each; of one
-- that is not settled, what its record says now.
-- key: rows
-- args: id from:number size:integer
-- answer: row, outcome or '', record or '' of each; less than `size` of them: there are no more
-- event: none
-- include: record
local base = string.sub(KEYS[1], 1, 9)
local rows = redis.call('LRANGE', KEYS[1], from, from + size - 1)
local answer, outcomes = {}, {}
if #rows == 0 then return answer end
local leases = {}
for i, row in ipairs(rows) do leases[i] = cjson.decode(row)[1] end
outcomes = redis.call('HMGET', base .. 'outcomes:' .. id, unpack(leases))
for i, row in ipairs(rows) do
  local record = not outcomes[i] and read(base .. 'lease:' .. leases[i])
  answer[#answer + 1] = row
  answer[#answer + 1] = outcomes[i] or ''
  answer[#answer + 1] = record and flat(record) or ''
end
return answer
