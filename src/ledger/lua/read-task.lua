#!lua flags=no-writes
-- A task with the facts of its tree. A task below an ended one has ended.
-- key: task
-- args:
-- answer: false | record, facts of the root, state of the nearest ended ancestor or false
-- event: none
-- include: clock record lineage
local record = read(KEYS[1])
if not record then return false end
local root = redis.call('HMGET', base .. 'task:' .. record.rt, 'ob', 'c:read', 'c:write', 'c:escalate')
local above = record.s == 'active' and ended_above(record.an)
return { flat(record), root, above or false }
