#!lua flags=allow-oom
-- pending -> active with the handle and expiry of what was minted; or `closing`, with the handle all the same and claimed for the caller,
-- when its task ended, a freeze came or the facts changed meanwhile. What is settled or gone is written again as `closing`, because
-- something exists upstream after all. Never refuses.
-- key: lease
-- args: lease task agent instance owner issuer role provider access sensitivity scope handle revocation residual ends_use
--   human human_key human_proof context_version freezable expires:number usable:number sealed_by event skew:number visibility:number mark:integer
-- answer: 'active', where its event is | 'closing', cause, claim
-- event: lease.issued | lease.closing; approval.spent
-- include: close freeze lineage over sealed settle approval
local record = read(KEYS[1])
local task_key = base .. 'task:' .. task
if record and record.s == 'a' then return { 'active', '' } end

if record and (record.s == 'p' or record.s == 'c') then
  -- The mint has arrived: whoever looks from now on sees it, whoever looked before proved nothing.
  write(KEYS[1], record, 'ha', handle, 'xa', expires, 'mu', math.min(now, tonumber(record.mu)), 'sn', record.n or 0)
  outlive(KEYS[1], record, usable)
  seal_lease(KEYS[1], record, sealed_by)
else
  -- Written again. Where the record is there still, it had been settled too early.
  local cause = record and record.ca or 'mint_timeout'
  local orchestrator = redis.call('HGET', task_key, 'or') or ''
  local attempts = record and record.n or 0
  local issued = record and record.ia or now
  redis.call('DEL', KEYS[1])
  record = {}
  write(KEYS[1], record, 's', 'c', 'ca', cause, 'cl', now, 't', task, 'a', agent, 'o', owner, 'is', issuer, 'or', orchestrator, 'ro', role,
    'pr', provider, 'ac', access, 'se', sensitivity, 'ha', handle, 'rv', revocation, 'rs', residual, 'ia', issued, 'xa', expires, 'ru', expires,
    'mu', now, 'cv', context_version, 'n', attempts, 'sn', attempts)
  if instance ~= '' then write(KEYS[1], record, 'i', instance) end
  if human ~= '' then write(KEYS[1], record, 'h', human) end
  if human_key ~= '' then write(KEYS[1], record, 'hk', human_key) end
  if human_proof ~= '' then write(KEYS[1], record, 'hp', human_proof) end
  if scope ~= '' then write(KEYS[1], record, 'sc', scope) end
  if ends_use == '1' then write(KEYS[1], record, 'xe', '1') end
  outlive(KEYS[1], record, usable)
  seal_lease(KEYS[1], record, sealed_by)
  redis.call('ZREM', base .. 'settled', lease)
  redis.call('SADD', base .. 'providers', provider)
  redis.call('SADD', task_key .. ':closing', lease)
  redis.call('ZADD', base .. 'closing:' .. provider, now, lease)
  local root = redis.call('HGET', task_key, 'rt')
  if root and redis.call('EXISTS', base .. 'task:' .. root) == 1 then redis.call('HINCRBY', base .. 'task:' .. root, 'L:' .. agent, 1) end
  for _, key in ipairs({ task_key, root and base .. 'task:' .. root or task_key }) do redis.call('PERSIST', key) end
  local claim = take(lease, record)
  tell('lease.closing', event, 'cause', cause)
  return { 'closing', cause, claim }
end

if record.s == 'c' then
  -- Emergencies that matched it reckoned with what was assumed.
  for revocation in string.gmatch(record.em or '', '%S+') do
    local progress = base .. 'progress:' .. revocation
    local over = usable_until(record)
    for _, field in ipairs({ 'over', 'over:' .. record.pr }) do
      if over > tonumber(redis.call('HGET', progress, field) or over) then redis.call('HSET', progress, field, over) end
    end
  end
  return { 'closing', record.ca, take(lease, record) }
end

local cause
local got = redis.call('HMGET', task_key, 's', 'an', 'cv', 'dl', 'fz', 'ec')
if got[1] ~= 'active' then
  cause = got[6] or 'task_revoked'
else
  local _, above = ended_above(got[2])
  cause = above or (now >= tonumber(got[4]) and 'task_expired') or nil
end
if not cause then
  local is_barred, any_frozen = barred()
  if is_barred or (any_frozen and frozen(tokens_in(freezable, got[5]))) then cause = 'frozen' end
end
if not cause and got[3] ~= record.cv then cause = 'context_changed' end
if cause then
  close_lease(lease, record, cause, event)
  return { 'closing', cause, take(lease, record) }
end
write(KEYS[1], record, 's', 'a')
redis.call('ZADD', base .. 'due:' .. record.pr, due_at(record), lease)
local told_at = tell('lease.issued', event, 'expires', expires, unpack(record.uu and { 'usable', record.uu } or {}))
if record.ap then
  local consent = read(base .. 'approval:' .. record.ap)
  if consent and consent.s == 'b' and consent.le == lease then spend_approval(record.ap, consent, lease, event) end
end
return { 'active', told_at }
