-- include: clock record event retire sealed approval
-- The end of a lease: revoked ('r') or expired ('e'). It leaves every index, frees what it counted for, and its record goes after the
-- retention. Needs `retention` (seconds) and `event`.
local function settle_lease(id, record, state)
  local key = base .. 'lease:' .. id
  local task = base .. 'task:' .. record.t
  local failed = record.fe
  write(key, record, 's', state, 'st', now)
  erase(key, record, 'rb')
  redis.call('EXPIRE', key, retention)
  if record.sk then count_sealed(record.sk, -1) end
  redis.call('SREM', task .. ':live', id)
  redis.call('SREM', task .. ':closing', id)
  redis.call('ZREM', base .. 'due:' .. record.pr, id)
  redis.call('ZREM', base .. 'urgent:' .. record.pr, id)
  redis.call('ZREM', base .. 'closing:' .. record.pr, id)
  if redis.call('EXISTS', base .. 'due:' .. record.pr, base .. 'urgent:' .. record.pr) == 0 then
    redis.call('SREM', base .. 'providers', record.pr)
  end
  redis.call('ZADD', base .. 'settled', now + retention * 1000, id)

  local root = redis.call('HGET', task, 'rt')
  if root then
    root = base .. 'task:' .. root
    local counted = 'L:' .. record.a
    if redis.call('HEXISTS', root, counted) == 1 and redis.call('HINCRBY', root, counted, -1) <= 0 then redis.call('HDEL', root, counted) end
  end
  for revocation in string.gmatch(record.em or '', '%S+') do
    local progress = base .. 'progress:' .. revocation
    local how = state == 'r' and 'revoked' or 'expired'
    redis.call('HINCRBY', progress, how, 1)
    redis.call('HSET', base .. 'outcomes:' .. revocation, id, state .. ' ' .. now .. ' ' .. (record.vd or ''))
    redis.call('HINCRBY', progress, how .. ':' .. record.pr, 1)
    if failed then
      redis.call('HINCRBY', progress, 'failed', -1)
      redis.call('HINCRBY', progress, 'failed:' .. record.pr, -1)
    end
  end
  if record.ap then free_approval(record.ap, id, event) end
  retire(record.t)
end

local function settled(record)
  return record.s == 'r' or record.s == 'e'
end
