#!lua flags=allow-oom
-- Writes down that an operator let this ledger go on, before any partition does.
-- key: meta
-- args: generation:integer record
-- answer: 1 | 0 when there is no such quarantine open
-- event: none; quarantine.lifted goes with the thaw
-- include:
local got = redis.call('HMGET', KEYS[1], 'generation', 'quarantine', 'lifted')
if not got[2] or got[3] or tonumber(got[1]) ~= generation then return 0 end
redis.call('HSET', KEYS[1], 'lifted', record)
return 1
