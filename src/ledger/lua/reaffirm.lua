#!lua
-- A live lease that is still allowed after a change of facts.
-- key: lease
-- args: id context_version skew:number
-- answer: 'ok' | 'not_found' 'stale' 'ended'
-- event: none
-- include: over
local record = read(KEYS[1])
if not record then return 'not_found' end
if record.s ~= 'p' and record.s ~= 'a' then return 'ended' end
if redis.call('HGET', base .. 'task:' .. record.t, 'cv') ~= context_version then return 'stale' end
write(KEYS[1], record, 'cv', context_version)
erase(KEYS[1], record, 'rb')
if record.s == 'a' then redis.call('ZADD', base .. 'due:' .. record.pr, due_at(record), id) end
return 'ok'
