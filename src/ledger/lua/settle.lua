#!lua flags=allow-oom
-- What became of a claim. Success is accepted from any attempt, failure only from the current one. "Absent" is conclusive from an attempt
-- that began after the mint could no longer arrive; before, it only reschedules. Where the upstream is to be asked whether it is dead (`vf`),
-- nothing is settled without its word: an attempt that began before that was wanted is repeated now.
-- key: lease
-- args: lease attempt:integer result verified error random:number base_ms:number most_ms:number skew:number retention:integer event
-- answer: state letter, due or 0, agent when it is settled now | false when there is no record
-- event: lease.revoked, of what was found upstream orphan.revoked; lease.stuck, or lease.alive where the upstream still takes it, at attempts that
--   are powers of two
-- include: over settle
local record = read(KEYS[1])
if not record then return false end
if record.s ~= 'c' then return { record.s, 0 } end
local due_key = base .. (record.em and 'urgent:' or 'due:') .. record.pr
local current = attempt == tonumber(record.n or 0)
-- Whoever took it back before it was found upstream took back something else.
local about_it = record.ca ~= 'orphan' or attempt > tonumber(record.sn)
local conclusive = (result == 'revoked' and about_it) or (result == 'absent' and record.sn and attempt > tonumber(record.sn))

if conclusive and record.vf and verified == '' then
  if current then
    redis.call('ZADD', due_key, now, lease)
    redis.call('PUBLISH', 'mf:due', lease)
  end
  return { 'c', now }
end
if conclusive then
  if verified ~= '' then write(KEYS[1], record, 'vd', verified) end
  settle_lease(lease, record, 'r')
  tell(record.ca == 'orphan' and 'orphan.revoked' or 'lease.revoked', event, 'cause', record.ca)
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
elseif result == 'alive' and now < tonumber(record.cf or now) + tonumber(record.rs) * 1000 then
  -- As its provider says: a confirmed revoke takes so long to be felt.
  local residual = tonumber(record.rs) * 1000
  if not record.cf then write(KEYS[1], record, 'cf', now) end
  due = math.min(tonumber(record.cf) + residual, now + math.max(base_ms, math.floor(residual / 4)))
else
  -- Full jitter, doubling, capped: for ever.
  due = now + math.floor(random * math.min(most_ms, base_ms * 2 ^ math.min(attempt - 1, 20)))
  if record.xe then due = math.min(due, math.max(now, usable_until(record) + skew)) end
  write(KEYS[1], record, 'le', error)
  if result == 'alive' then write(KEYS[1], record, 'vd', 'alive') end
  if not record.fe then
    write(KEYS[1], record, 'fe', '1')
    for revocation in string.gmatch(record.em or '', '%S+') do
      redis.call('HINCRBY', base .. 'progress:' .. revocation, 'failed', 1)
      redis.call('HINCRBY', base .. 'progress:' .. revocation, 'failed:' .. record.pr, 1)
    end
  end
  local power = attempt
  while power > 1 and power % 2 == 0 do power = power / 2 end
  if power == 1 then tell(result == 'alive' and 'lease.alive' or 'lease.stuck', event, 'cause', record.ca, 'attempts', attempt) end
end
redis.call('ZADD', due_key, due, lease)
return { 'c', due }
