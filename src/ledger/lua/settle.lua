#!lua flags=allow-oom
-- What became of a claim. Success is accepted from any attempt, failure only from the current one. "Absent" is conclusive from an attempt
-- that began after the mint could no longer arrive; before, it only reschedules.
-- key: lease
-- args: lease attempt:number result error random:number base_ms:number most_ms:number skew:number retention:number event
-- answer: state letter, due or 0, agent when it is settled now | false when there is no record
-- event: lease.revoked; lease.stuck at attempts that are powers of two
-- include: over settle
local record = read(KEYS[1])
if not record then return false end
if record.s ~= 'c' then return { record.s, 0 } end
local due_key = base .. (record.em and 'urgent:' or 'due:') .. record.pr
local current = attempt == tonumber(record.n or 0)

if result == 'revoked' or (result == 'absent' and record.sn and attempt > tonumber(record.sn)) then
  settle_lease(lease, record, 'r')
  tell('lease.revoked', event, 'cause', record.ca)
  return { 'r', 0, record.a }
end

local due = tonumber(redis.call('ZSCORE', due_key, lease) or now)
if not current then return { 'c', due } end

if result == 'absent' then
  due = math.max(now, tonumber(record.mu) + skew)
elseif result == 'awaits_expiry' then
  due = math.max(now, usable_until(record) + skew)
  write(KEYS[1], record, 'aw', '1')
  -- It is waiting as it should, not late.
  redis.call('ZREM', base .. 'closing:' .. record.pr, lease)
else
  -- Full jitter, doubling, capped: for ever.
  due = now + math.floor(random * math.min(most_ms, base_ms * 2 ^ math.min(attempt - 1, 20)))
  if record.xe then due = math.min(due, math.max(now, usable_until(record) + skew)) end
  write(KEYS[1], record, 'le', error)
  if not record.fe then
    write(KEYS[1], record, 'fe', '1')
    for revocation in string.gmatch(record.em or '', '%S+') do
      redis.call('HINCRBY', base .. 'progress:' .. revocation, 'failed', 1)
      redis.call('HINCRBY', base .. 'progress:' .. revocation, 'failed:' .. record.pr, 1)
    end
  end
  local power = attempt
  while power > 1 and power % 2 == 0 do power = power / 2 end
  if power == 1 then tell('lease.stuck', event, 'cause', record.ca, 'attempts', attempt) end
end
redis.call('ZADD', due_key, due, lease)
return { 'c', due }
