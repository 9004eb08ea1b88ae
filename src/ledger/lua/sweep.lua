#!lua flags=allow-oom
-- Notes that some broker sweeps, in the first partition. A gap means that the ledger or all brokers were away: heartbeats could not
-- arrive, and are extended by its length.
-- key: sweep
-- args: gap_ms:number
-- answer: when the last outage began, when it ended (0: there was none)
-- event: none
-- include: clock
local got = redis.call('HMGET', KEYS[1], 'at', 'from', 'to')
local from, to = tonumber(got[2] or 0), tonumber(got[3] or 0)
if got[1] and now - tonumber(got[1]) > gap_ms then
  from, to = tonumber(got[1]), now
  redis.call('HSET', KEYS[1], 'at', now, 'from', from, 'to', to)
else
  redis.call('HSET', KEYS[1], 'at', now)
end
return { from, to }
