#!lua
-- Heartbeat. Answers with the state, so that the caller learns of an end.
-- key: task
-- args: id
-- answer: false | state, when the next heartbeat is due (0: none expected)
-- event: none
-- include: clock lineage
local got = redis.call('HMGET', KEYS[1], 's', 'an', 'hb', 'dl')
if not got[1] then return false end
if got[1] ~= 'active' then return { got[1], 0 } end
local above = ended_above(got[2])
if above then return { above, 0 } end
if not got[3] then return { 'active', 0 } end
local due = now + tonumber(got[3]) * 1000
redis.call('HSET', KEYS[1], 'hd', due, 'ht', now)
redis.call('ZADD', base .. 'tasks:due', math.min(due, tonumber(got[4])), id)
return { 'active', due }
