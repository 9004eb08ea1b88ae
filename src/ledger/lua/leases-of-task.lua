#!lua flags=no-writes
-- The unsettled leases of one task.
-- key: task
-- args:
-- answer: id and record, ...
-- event: none
-- include: clock record
local answer = {}
for _, set in ipairs({ ':live', ':closing' }) do
  for _, lease in ipairs(redis.call('SMEMBERS', KEYS[1] .. set)) do
    local record = read(base .. 'lease:' .. lease)
    if record then answer[#answer + 1] = { lease, flat(record) } end
  end
end
return answer
