-- include: clock record event
-- A lease on its way back: pending or active -> closing, and the claims on what is closing. Needs `skew` and `visibility`.

local function due_key(record)
  return base .. (record.em and 'urgent:' or 'due:') .. record.pr
end

-- Gives a closing lease to the caller until the visibility timeout; counts the attempt. From the first attempt that begins once the
-- mint can no longer arrive (`sn`), an upstream's "absent" proves something.
local function take(id, record)
  local attempts = tonumber(record.n or 0)
  local key = base .. 'lease:' .. id
  if not record.sn and now >= tonumber(record.mu) + skew then
    write(key, record, 'n', attempts + 1, 'sn', attempts)
  else
    write(key, record, 'n', attempts + 1)
  end
  redis.call('ZADD', due_key(record), now + visibility, id)
  return { id, flat(record), attempts + 1, now + visibility }
end

-- pending or active -> closing, due now, with its event. `json` tells of this lease alone, or of many things when `many`.
local function close_lease(id, record, cause, json, many)
  local key = base .. 'lease:' .. id
  local task = base .. 'task:' .. record.t
  write(key, record, 's', 'c', 'ca', cause, 'cl', now)
  erase(key, record, 'rb')
  redis.call('SREM', task .. ':live', id)
  redis.call('SADD', task .. ':closing', id)
  redis.call('ZADD', base .. 'closing:' .. record.pr, now, id)
  redis.call('ZADD', due_key(record), now, id)
  if many then
    tell('lease.closing', json, 'sub', id, 'lease', id, 'task', record.t, 'agent', record.a, 'role', record.ro, 'provider', record.pr,
      'cause', cause)
  else
    tell('lease.closing', json, 'cause', cause)
  end
end

local function is_live(record)
  return record.s == 'p' or record.s == 'a'
end
