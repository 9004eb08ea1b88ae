#!lua
-- One operator wants a freeze to be thawed, which takes others who ask for it too. Whoever asks again says it anew.
-- key: thaw
-- args: who ask ttl_ms:integer event
-- answer: what everybody has asked, who asks now among them
-- event: freeze.thaw_asked
-- include: event
-- What Redis would take for no time at all, after the first write.
local LONGEST_MS = 366 * 86400000
redis.call('HSET', KEYS[1], who, ask)
redis.call('PEXPIRE', KEYS[1], math.max(1, math.min(ttl_ms, LONGEST_MS)))
tell('freeze.thaw_asked', event)
return redis.call('HVALS', KEYS[1])
