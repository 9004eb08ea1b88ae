#!lua flags=allow-oom
-- Takes or keeps the right to read this partition's events. Writes only when a good part of the term is over.
-- key: audit
-- args: reader ttl_ms:number
-- answer: 1 | 0 when another reader holds it
-- event: none
-- include: clock
local got = redis.call('HMGET', KEYS[1], 'reader', 'until')
local left = tonumber(got[2] or 0) - now
if got[1] and got[1] ~= reader and left > 0 then return 0 end
if got[1] ~= reader or left < ttl_ms / 2 then redis.call('HSET', KEYS[1], 'reader', reader, 'until', now + ttl_ms) end
return 1
