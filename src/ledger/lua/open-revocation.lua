#!lua flags=allow-oom
-- The home record of an emergency: from here on any replica goes on with it.
-- key: revocation
-- args: id selector reason by freeze verify event
-- answer: when it started
-- event: revocation.started
-- include: event
local started = redis.call('HGET', KEYS[1], 'at')
if started then return tonumber(started) end
redis.call('HSET', KEYS[1], 'selector', selector, 'reason', reason, 'by', by, 'freeze', freeze, 'verify', verify, 'at', now)
redis.call('ZADD', base .. 'revocations', now, id)
tell('revocation.started', event)
return now
