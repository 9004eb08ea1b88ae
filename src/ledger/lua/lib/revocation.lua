-- include: event
-- The home record of an emergency: from here on any replica goes on with it. Answers when it started, which may have been before.
local function open_revocation(revocation, selector, reason, by, freeze, verify, event)
  local key = base .. 'revocation:' .. revocation
  local started = redis.call('HGET', key, 'at')
  if started then return tonumber(started) end
  -- The index first: a record that is not in it would be nobody's.
  redis.call('ZADD', base .. 'revocations', now, revocation)
  redis.call('HSET', key, 'selector', selector, 'reason', reason, 'by', by, 'freeze', freeze, 'verify', verify, 'at', now)
  tell('revocation.started', event)
  return now
end
