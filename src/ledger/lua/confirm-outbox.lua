#!lua flags=allow-oom
-- Trims what the audit has written, up to and including `id`; only for who holds the right to read. From now on whoever knows of this mark issues
-- nothing where it is missing: `lib/freeze.lua`.
-- key: audit
-- args: reader id next
-- answer: the mark | 0 when another reader took over
-- event: none
-- include: clock
if redis.call('HGET', KEYS[1], 'reader') ~= reader then return 0 end
local mark = math.max(tonumber(string.match(id, '^%d+')), tonumber(redis.call('HGET', base .. 'freezes', 'mark') or 0))
redis.call('XTRIM', base .. 'events', 'MINID', '=', next)
redis.call('HSET', KEYS[1], 'cursor', id)
redis.call('HSET', base .. 'freezes', 'mark', string.format('%.0f', mark))
return mark
