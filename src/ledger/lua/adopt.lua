#!lua flags=allow-oom
-- Something exists upstream that no unsettled record tells of: written as `closing`, so that it is taken back, however often that fails. What a
-- settled record said of it besides is kept; of what nobody knows any more the worst is assumed. Claimed for the caller; with a `visibility` of 0 it is left, due at once for whoever sweeps.
-- key: lease
-- args: lease provider handle sealed_by revocation residual expires:number event skew:number visibility:number
-- answer: false when an unsettled record is there | 'adopted', claim or false
-- event: lease.closing
-- include: close over sealed
local record = read(KEYS[1])
if record and record.s ~= 'r' and record.s ~= 'e' then return false end
local was = record or {}
local task = was.t or ''
redis.call('DEL', KEYS[1])
record = {}
-- A mint of it would have come to its end by now, so that an "absent" from the first attempt on says that it is gone. What earlier attempts say was
-- of what was there before.
write(KEYS[1], record, 's', 'c', 'ca', 'orphan', 'cl', now, 't', task, 'a', was.a or '', 'o', was.o or '', 'is', was.is or '', 'or', was['or'] or '',
  'ro', was.ro or '', 'pr', provider, 'ac', was.ac or 'escalate', 'se', was.se or 'restricted', 'ha', handle, 'rv', revocation, 'rs', residual, 'ia', was.ia or now,
  'xa', expires, 'ru', expires, 'mu', now - skew, 'cv', was.cv or 0, 'n', was.n or 0, 'sn', was.n or 0)
for _, field in ipairs({ 'i', 'h', 'hk', 'hp', 'sc' }) do
  if was[field] then write(KEYS[1], record, field, was[field]) end
end
seal_lease(KEYS[1], record, sealed_by)
redis.call('ZREM', base .. 'settled', lease)
redis.call('ZREM', base .. 'sighted:' .. provider, lease, '!' .. lease)
redis.call('SADD', base .. 'providers', provider)
redis.call('ZADD', base .. 'closing:' .. provider, now, lease)
redis.call('ZADD', base .. 'due:' .. provider, now, lease)
if task ~= '' then
  local task_key = base .. 'task:' .. task
  redis.call('SADD', task_key .. ':closing', lease)
  local root = redis.call('HGET', task_key, 'rt')
  if root and redis.call('EXISTS', base .. 'task:' .. root) == 1 then redis.call('HINCRBY', base .. 'task:' .. root, 'L:' .. record.a, 1) end
  for _, key in ipairs({ task_key, root and base .. 'task:' .. root or task_key }) do redis.call('PERSIST', key) end
end
tell('lease.closing', event, 'cause', 'orphan')
if visibility <= 0 then
  redis.call('PUBLISH', 'mf:due', lease)
  return { 'adopted', false }
end
return { 'adopted', take(lease, record) }
