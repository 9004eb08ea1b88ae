#!lua
-- One operator's consent. Counts once for each group asked that the operator is in; with the last one that is needed it is granted.
-- key: approval
-- args: approval operator issuer groups persons reason granted_ms:number event outbox_limit:number
-- answer: 'ok', record | 'not_found' 'decided' 'over' 'twice' 'outbox_full', detail
-- event: approval.given | approval.expired
-- include: approval
local record = read(KEYS[1])
if not record then return { 'not_found' } end
if record.s ~= 'o' then return { 'decided', record.s } end
local over = approval_over(record)
if over then
  expire_approval(approval, record, over, event)
  return { 'over', over }
end
local given = record.by and cjson.decode(record.by) or {}
for _, one in ipairs(given) do
  if one.id == operator and one.issuer == issuer then return { 'twice' } end
  -- Nor under another id.
  for _, person in ipairs(one.persons or {}) do
    if string.find(' ' .. persons .. ' ', ' ' .. person .. ' ', 1, true) then return { 'twice' } end
  end
end
if outbox_full(outbox_limit) then return { 'outbox_full' } end

local consent = { id = operator, issuer = issuer, groups = {}, at = now }
for group in string.gmatch(groups, '%S+') do consent.groups[#consent.groups + 1] = group end
for person in string.gmatch(persons, '%S+') do
  consent.persons = consent.persons or {}
  consent.persons[#consent.persons + 1] = person
end
if reason ~= '' then consent.reason = reason end
given[#given + 1] = consent
local enough = true
for _, need in ipairs(cjson.decode(record.ne)) do
  local count = 0
  for _, one in ipairs(given) do
    for _, group in ipairs(one.groups) do
      if group == need.group then count = count + 1 end
    end
  end
  if count < need.approvals then enough = false end
end
write(KEYS[1], record, 'by', cjson.encode(given))
if enough then
  write(KEYS[1], record, 's', 'g', 'xa', math.min(now + granted_ms, tonumber(record.dl)))
  redis.call('ZADD', base .. 'approvals', record.xa, approval)
end
tell('approval.given', event, 'approval', approval, 'agent', record.a, 'state', enough and 'granted' or 'open')
return { 'ok', flat(record) }
