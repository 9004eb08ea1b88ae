#!lua
-- Creates a task, or a child after looking at every ancestor. The same id, or the same external id with the same body, answers what is there.
-- key: task
-- args: id parent digest external opener_kind opener_id opener_issuer opener_instance intent stated classified confidence classification
--   environment assignees envelope tools check plan labels human human_proof external_id deadline:number heartbeat:number max_depth:number context_version
--   tokens event outbox_limit:number opened opened_limit:number retention:integer mark:integer
-- rest: bindings
-- answer: 'created' | 'known', id, record, facts of the root, where its event is | 'quarantined' 'conflict' 'parent_ended' 'stale' 'too_deep' 'frozen' 'quota' 'outbox_full', detail
-- event: task.opened
-- include: clock record event lineage freeze external
if (#ARGV - rest) % 2 == 0 then return redis.error_reply('ERR an agent without its bindings') end
local same = read(KEYS[1])
if same then
  if same.dg ~= digest then return { 'conflict', 'the id is taken' } end
  return task_answer('created', id, same)
end
local is_barred, any_frozen = barred()
if is_barred then return { 'quarantined' } end
local known, there, conflict = task_known_as(external, digest)
if conflict then return conflict end
if known then return task_answer('known', known, there) end

local above
local ancestors, depth, root, orchestrator = '', 0, id, opener_kind == 'orchestrator' and opener_id or ''
if parent ~= '' then
  above = read(base .. 'task:' .. parent)
  if not above or above.s ~= 'active' or ended_above(above.an) or now >= tonumber(above.dl) then return { 'parent_ended' } end
  depth = tonumber(above.de) + 1
  if depth > max_depth then return { 'too_deep' } end
  ancestors = above.an == '' and parent or (parent .. ' ' .. above.an)
  root, orchestrator = above.rt, above['or']
  if context_version ~= '' and above.cv ~= context_version then return { 'stale' } end
  deadline = math.min(deadline, tonumber(above.dl))
  -- What the task is about, and for whom, is inherited and cannot be changed.
  intent, stated, classified, confidence, classification, environment = above['in'], above.si or '', above.cl, above.co, above.ca, above.en
  human, human_proof = above.hu or '', above.hp or ''
end
-- A freeze covers a task through what is above it too.
local all, seen = {}, {}
for token in string.gmatch(tokens .. ' ' .. (above and above.fz or ''), '%S+') do
  if not seen[token] then
    seen[token] = true
    all[#all + 1] = token
  end
end
if any_frozen then
  local by = frozen(all)
  if by then return { 'frozen', by } end
end
if outbox_full(outbox_limit) then return { 'outbox_full' } end
-- What an agent opened for itself and the ledger still holds, by when it is gone at the latest.
if opened ~= '' then
  redis.call('ZREMRANGEBYSCORE', opened, '-inf', now)
  if redis.call('ZCARD', opened) >= opened_limit then return { 'quota', 'tasks that this agent opened' } end
end

local record = {}
write(KEYS[1], record, 's', 'active', 'rt', root, 'an', ancestors, 'de', depth, 'ok', opener_kind, 'oi', opener_id, 'os', opener_issuer, 'or',
  orchestrator, 'in', intent, 'cl', classified, 'co', confidence, 'ca', classification, 'en', environment, 'as', assignees, 'ev', envelope,
  'la', labels, 'oa', now, 'dl', deadline, 'fz', table.concat(all, ' '), 'dg', digest, 'cv', 1)
for i = rest, #ARGV, 2 do redis.call('HSET', KEYS[1], 'A:' .. ARGV[i], ARGV[i + 1]) end
if parent ~= '' then
  write(KEYS[1], record, 'pa', parent)
  local chain = above.ch or ''
  if opener_kind == 'agent' then chain = chain == '' and opener_id or (chain .. ' ' .. opener_id) end
  if chain ~= '' then write(KEYS[1], record, 'ch', chain) end
  redis.call('SADD', base .. 'task:' .. parent .. ':children', id)
end
if tools ~= '' then write(KEYS[1], record, 'tl', tools) end
if check ~= '' then write(KEYS[1], record, 'ck', check) end
if plan ~= '' then write(KEYS[1], record, 'pl', plan) end
if stated ~= '' then write(KEYS[1], record, 'si', stated) end
if human ~= '' then write(KEYS[1], record, 'hu', human) end
if human ~= '' and human_proof ~= '' then write(KEYS[1], record, 'hp', human_proof) end
if opener_instance ~= '' then write(KEYS[1], record, 'on', opener_instance) end
if opened ~= '' then
  write(KEYS[1], record, 'op', opened)
  redis.call('ZADD', opened, deadline + retention * 1000, id)
end
if external ~= '' then
  write(KEYS[1], record, 'ex', external_id, 'eh', external)
  redis.call('SET', base .. 'ext:' .. external, id)
end
local due = deadline
if heartbeat > 0 then
  write(KEYS[1], record, 'hb', heartbeat, 'hd', now + heartbeat * 1000, 'ht', now)
  due = math.min(due, now + heartbeat * 1000)
end
redis.call('ZADD', base .. 'tasks:due', due, id)
redis.call('ZADD', base .. 'tasks', 0, id)
tell('task.opened', event)
local answer = task_answer('created', id, record)
answer[5] = told_at
return answer
