#!lua flags=allow-oom
-- Spends a single-use token. Also in a Redis that is full: an operator's token may be one, and the stop must work.
-- key: seen
-- args: ttl_ms:number
-- answer: 1 | 0 when it was spent before
-- event: none
return redis.call('SET', KEYS[1], '1', 'PX', ttl_ms, 'NX') and 1 or 0
