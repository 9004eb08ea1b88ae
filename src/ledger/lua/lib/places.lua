-- include: clock
-- Live leases of one agent over all partitions, in a sorted set at the agent's own partition. The score is when a lease is over at the
-- latest, so that a place that nobody gave back heals by itself.

-- Whether there is room for `id` beside what it takes the place of.
local function has_place(key, id, limit, instead)
  for _, other in ipairs(instead) do
    if redis.call('ZSCORE', key, other) then limit = limit + 1 end
  end
  if redis.call('ZCARD', key) < limit or redis.call('ZSCORE', key, id) then return true end
  redis.call('ZREMRANGEBYSCORE', key, '-inf', now)
  return redis.call('ZCARD', key) < limit
end
