-- include: clock
-- Appends to the outbox, in the same step as the change that it tells of. `json` is the event as its broker made it; the fields
-- after it are what only the script knew, and win over it. `sub` makes one event's id into many, where a script tells of many things.
local told_at = ''
local function tell(type, json, ...)
  told_at = redis.call('XADD', base .. 'events', '*', 'type', type, 'event', json, ...)
  return told_at
end

-- True when nothing more may be issued until the audit has caught up.
local function outbox_full(limit)
  return redis.call('XLEN', base .. 'events') >= limit
end
