-- include: clock record event close retire approval
-- The end of a task and of all below it. The root of what ended is marked in this very step, which stops issuing everywhere below,
-- since whoever issues looks at all ancestors. As many leases as the budget allows close now; what is left stays due now.
-- Needs what `close` and `retire` need.

-- Tasks that one step marks; the others are due now on their own.
local MOST_TASKS = 1000

-- Ends the subtree of `id`. `first`, told once for `id` itself, is the event of that end; `many` is the event that all else derives from.
-- Closes up to `budget` leases and gives at most `claims` of them to the caller.
-- Answers what is left of the budget, the live leases there were, and the claims.
local function end_tree(id, state, cause, reason, first, many, budget, claims)
  local stack, visited, live, taken = { id }, 0, 0, {}
  while #stack > 0 do
    local one = table.remove(stack)
    local key = base .. 'task:' .. one
    if visited >= MOST_TASKS then
      redis.call('ZADD', base .. 'tasks:due', now, one)
    else
      visited = visited + 1
      if redis.call('HGET', key, 's') == 'active' then
        redis.call('HSET', key, 's', state, 'ea', now, 'ec', cause, 're', reason)
        if first and one == id then
          tell('task.ended', first, 'task', one, 'state', state, 'cause', cause)
        else
          tell('task.ended', many, 'sub', one, 'task', one, 'state', state, 'cause', cause)
        end
        for _, child in ipairs(redis.call('SMEMBERS', key .. ':children')) do stack[#stack + 1] = child end
      end
      end_approvals(one, cause, many)
      local count = redis.call('SCARD', key .. ':live')
      live = live + count
      if budget > 0 and count > 0 then
        for _, lease in ipairs(redis.call('SRANDMEMBER', key .. ':live', budget)) do
          local record = read(base .. 'lease:' .. lease)
          if record then
            close_lease(lease, record, cause, many, true)
            if #taken < claims then taken[#taken + 1] = take(lease, record) end
          else
            redis.call('SREM', key .. ':live', lease)
          end
          budget = budget - 1
          count = count - 1
        end
      end
      if count > 0 then
        redis.call('ZADD', base .. 'tasks:due', now, one)
      else
        redis.call('ZREM', base .. 'tasks:due', one)
        retire(one)
      end
    end
  end
  return budget, live, taken
end
