#!lua flags=allow-oom
-- One operator's no, which is everybody's. It narrows, so it waits neither for memory nor for the outbox.
-- key: approval
-- args: approval operator issuer reason event
-- answer: 'ok', record | 'not_found' 'decided' 'over', detail
-- event: approval.denied | approval.expired
-- include: approval
local record = read(KEYS[1])
if not record then return { 'not_found' } end
if record.s ~= 'o' then return { 'decided', record.s } end
local over = approval_over(record)
if over then
  expire_approval(approval, record, over, event)
  return { 'over', over }
end
local denial = { id = operator, issuer = issuer, at = now }
if reason ~= '' then denial.reason = reason end
write(KEYS[1], record, 'no', cjson.encode(denial))
end_approval(approval, record, 'd')
tell('approval.denied', event, 'approval', approval, 'agent', record.a)
return { 'ok', flat(record) }
