#!lua
-- Counts a live lease of an agent, where the lease is in another partition than the agent's own.
-- key: agent-live
-- args: lease over_at:number limit:integer instead
-- answer: 1 | 0 when the agent is at its limit
-- event: none
-- include: places
if not has_place(KEYS[1], lease, limit, instead == '' and {} or { instead }) then return 0 end
redis.call('ZADD', KEYS[1], over_at, lease)
return 1
