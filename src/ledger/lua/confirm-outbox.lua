#!lua flags=allow-oom
-- Trims what the audit has written, up to and including `id`; only for who holds the right to read.
-- key: audit
-- args: reader id next
-- answer: 1 | 0 when another reader took over
-- event: none
-- include: clock
if redis.call('HGET', KEYS[1], 'reader') ~= reader then return 0 end
redis.call('XTRIM', base .. 'events', 'MINID', '=', next)
redis.call('HSET', KEYS[1], 'cursor', id)
return 1
