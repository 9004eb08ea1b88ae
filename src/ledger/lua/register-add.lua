#!lua flags=allow-oom
-- Enters something into a provider's list until `valid_until`, or until the later one that it was entered with before. Also in a Redis
-- that is full: this is how some providers revoke.
-- key: register
-- args: list hash id valid_until:number
-- answer: 1 | 0 when nothing changed
-- event: none
-- include: register
if valid_until <= now then return 0 end
if redis.call('ZADD', entries, 'GT', 'CH', valid_until, 'e' .. id) == 0 then return 0 end
redis.call('SADD', KEYS[1] .. ':lists', list)
changed(list, '+' .. id, ARGV[4], 0)
return 1
