#!lua flags=no-writes
-- One batch of records from an index of this partition, for listings.
-- key: providers
-- args: index kind cursor
-- answer: next cursor, id and record, ...
-- event: none
-- include: clock record lineage approval
local got = redis.call('ZSCAN', base .. index, cursor, 'COUNT', 100)
local answer = { got[1] }
for i = 1, #got[2], 2 do
  local record = read(base .. kind .. ':' .. got[2][i])
  if record then
    if kind == 'task' then
      local root = redis.call('HMGET', base .. 'task:' .. record.rt, 'ob', 'c:read', 'c:write', 'c:escalate')
      local above = record.s == 'active' and ended_above(record.an)
      answer[#answer + 1] = { got[2][i], flat(record), root, above or false }
    elseif kind == 'approval' then
      answer[#answer + 1] = { got[2][i], flat(record), approval_over(record) or false }
    else
      answer[#answer + 1] = { got[2][i], flat(record) }
    end
  end
end
return answer
