-- include: clock
-- An ended task goes once nothing is left below it: no unsettled lease, no child. Then the same is asked of its parent, so an ancestor
-- never goes before its descendants. Needs `retention` (seconds).
local function retire(id)
  while id and id ~= '' do
    local key = base .. 'task:' .. id
    local got = redis.call('HMGET', key, 's', 'pa', 'eh', 'op')
    if not got[1] or got[1] == 'active' then return end
    if redis.call('SCARD', key .. ':live') + redis.call('SCARD', key .. ':closing') + redis.call('SCARD', key .. ':children') > 0 then return end
    redis.call('EXPIRE', key, retention)
    redis.call('ZREM', base .. 'tasks:due', id)
    redis.call('ZADD', base .. 'tasks', now + retention * 1000, id)
    if got[4] then redis.call('ZADD', got[4], 'XX', now + retention * 1000, id) end
    if got[3] then redis.call('EXPIRE', base .. 'ext:' .. got[3], retention) end
    if got[2] then redis.call('SREM', base .. 'task:' .. got[2] .. ':children', id) end
    id = got[2]
  end
end
