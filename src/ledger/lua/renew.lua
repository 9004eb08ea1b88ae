#!lua
-- Records the later expiry before the upstream is asked to extend. Being decided on current facts, it reaffirms the lease too.
-- key: lease
-- args: lease ttl_ms:number context_version obtained counts freezable token_issued:number token_skew:number max_renewals:number human_proof event
--   outbox_limit:number skew:number approval approval_digest mark:integer
-- answer: 'ok', record, where its event is | 'quarantined' 'not_found' 'closed' 'ended' 'frozen' 'stale' 'limit' 'renewals' 'token_not_fresh' 'human_not_fresh' 'outbox_full'
--   'approval_invalid', detail
-- event: lease.renewed; approval.spent
-- include: over event lineage freeze approval renewal
local is_barred, any_frozen = barred()
if is_barred then return { 'quarantined' } end
local record = read(KEYS[1])
if not record then return { 'not_found' } end
if record.s ~= 'a' or now >= tonumber(record.xa) then return { 'closed' } end
local got = redis.call('HMGET', base .. 'task:' .. record.t, 's', 'an', 'rt', 'dl', 'fz', 'cv')
if got[1] ~= 'active' then return { 'ended', got[1] or 'revoked' } end
local above = ended_above(got[2])
if above or now >= tonumber(got[4]) then return { 'ended', above or 'expired' } end
if any_frozen then
  local by = frozen(tokens_in(freezable, got[5]))
  if by then return { 'frozen', by } end
end
local root = redis.call('HMGET', base .. 'task:' .. got[3], 'ob', 'c:read', 'c:write', 'c:escalate')
if got[6] ~= context_version or (root[1] or '') ~= obtained then return { 'stale' } end
if counts ~= '' and counts ~= (root[2] or '0') .. ',' .. (root[3] or '0') .. ',' .. (root[4] or '0') then return { 'stale' } end
local most = math.min(tonumber(record.ru), tonumber(got[4]))
if tonumber(record.xa) >= most then return { 'limit' } end
local no = no_renewal(record)
if no then return { no } end
if outbox_full(outbox_limit) then return { 'outbox_full' } end
local consent, no_consent
if approval ~= '' then
  consent, no_consent = usable_approval(approval, approval_digest, record.t, record.a)
  if not consent then return { 'approval_invalid', no_consent } end
end
local expires = math.max(tonumber(record.xa), math.min(now + ttl_ms, most))
write(KEYS[1], record, 'xa', expires, 'cv', context_version, 'ti', token_issued, 'la', now, 'rn', tonumber(record.rn or 0) + 1)
if human_proof ~= '' then write(KEYS[1], record, 'hp', human_proof) end
outlive(KEYS[1], record, tonumber(record.uu or 0))
erase(KEYS[1], record, 'rb')
redis.call('ZADD', base .. 'due:' .. record.pr, due_at(record), lease)
local told_at = tell('lease.renewed', event, 'expires', expires)
if consent then
  write(KEYS[1], record, 'ap', approval)
  spend_approval(approval, consent, lease, event)
end
return { 'ok', flat(record), told_at }
