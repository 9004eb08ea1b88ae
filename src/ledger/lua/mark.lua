#!lua flags=allow-oom
-- Leaves a mark behind all that was written before it, for the WAIT that follows: that one looks no further than its own connection's last
-- write. Works with a full memory, as what it is waited for does.
-- key: wait
-- args: at:number
-- answer: 1
-- event: none
redis.call('SET', KEYS[1], at)
return 1
