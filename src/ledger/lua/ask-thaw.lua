#!lua
-- One operator wants a freeze to be thawed, which takes others who ask for it too. Whoever asks again says it anew.
-- key: thaw
-- args: who ask ttl_ms:number event
-- answer: what everybody has asked, who asks now among them
-- event: freeze.thaw_asked
-- include: event
redis.call('HSET', KEYS[1], who, ask)
redis.call('PEXPIRE', KEYS[1], ttl_ms)
tell('freeze.thaw_asked', event)
return redis.call('HVALS', KEYS[1])
