#!lua flags=allow-oom
-- All that an emergency matched is settled: told once, with its sums, which outlive the progress of the partitions.
-- key: revocation
-- args: id sums event retention:integer
-- answer: 1 | 0 when it had finished before
-- event: revocation.finished
-- include: event
if redis.call('EXISTS', KEYS[1]) == 0 or redis.call('HEXISTS', KEYS[1], 'finished') == 1 then return 0 end
redis.call('HSET', KEYS[1], 'finished', now, 'sums', sums)
redis.call('EXPIRE', KEYS[1], retention)
redis.call('ZREM', base .. 'revocations', id)
tell('revocation.finished', event)
return 1
