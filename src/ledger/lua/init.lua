#!lua
-- Makes an empty Redis a ledger. An explicit act: a ledger that was lost must never be taken for a first start. `quarantine`, unless empty: it was.
-- key: meta
-- args: schema instance partitions ledger quarantine
-- answer: 1 | 0 when there is one already
-- event: none
-- include:
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
local clock = redis.call('TIME')
redis.call('HSET', KEYS[1], 'schema', schema, 'instance', instance, 'partitions', partitions, 'ledger', ledger, 'generation', 1, 'created_at',
  clock[1] * 1000 + math.floor(clock[2] / 1000))
if quarantine ~= '' then redis.call('HSET', KEYS[1], 'quarantine', quarantine, 'since:1', 0) end
return 1
