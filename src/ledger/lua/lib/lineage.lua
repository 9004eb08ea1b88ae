-- include: clock
-- Whether a task is over because of itself or of something above it. Tasks are only marked at the root of what ended, so whoever
-- issues looks at all of them. An ancestor that is missing has ended: it cannot expire before its descendants do.

-- State and cause of the nearest ended ancestor, or nil. `ancestors` are ids, nearest first, separated by spaces.
local function ended_above(ancestors)
  for id in string.gmatch(ancestors, '%S+') do
    local got = redis.call('HMGET', base .. 'task:' .. id, 's', 'ec')
    if got[1] ~= 'active' then return got[1] or 'revoked', got[2] or 'task_revoked' end
  end
  return nil
end
