#!lua
-- Counts a live lease of an agent, whatever partition it is in, at the agent's own. The score is when it is over at the latest, so that
-- a place that nobody gave back heals by itself.
-- key: agent-live
-- args: lease over_at:number limit:number instead
-- answer: 1 | 0 when the agent is at its limit
-- event: none
-- include: clock
-- What it takes the place of does not count against it.
if instead ~= '' and redis.call('ZSCORE', KEYS[1], instead) then limit = limit + 1 end
if redis.call('ZCARD', KEYS[1]) >= limit and not redis.call('ZSCORE', KEYS[1], lease) then
  redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
  if redis.call('ZCARD', KEYS[1]) >= limit then return 0 end
end
redis.call('ZADD', KEYS[1], over_at, lease)
return 1
