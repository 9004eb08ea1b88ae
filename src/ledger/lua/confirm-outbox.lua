#!lua flags=allow-oom
-- Trims what the audit has written, up to and including `id`; only for who holds the right to read. From now on whoever knows of this mark issues
-- nothing where it is missing: `lib/freeze.lua`. A partition without a mark, or behind the one that its broker knows (`known`), was emptied or is an
-- older one: what is told there meanwhile makes it no better.
-- key: audit
-- args: reader id next known:integer
-- answer: 1 | 0 when another reader took over, the mark or 0
-- event: none
-- include: clock
if redis.call('HGET', KEYS[1], 'reader') ~= reader then return { 0, 0 } end
local mark = tonumber(redis.call('HGET', base .. 'freezes', 'mark') or 0)
local is_behind = mark == 0 or mark < known
mark = math.max(mark, tonumber(string.match(id, '^%d+')))
redis.call('XTRIM', base .. 'events', 'MINID', '=', next)
redis.call('HSET', KEYS[1], 'cursor', id)
if is_behind then return { 1, 0 } end
redis.call('HSET', base .. 'freezes', 'mark', string.format('%.0f', mark))
return { 1, mark }
