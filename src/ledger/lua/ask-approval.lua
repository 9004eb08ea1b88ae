#!lua
-- Puts one exact request before those who may agree to it; a request that was put before them already has the same approval.
-- key: approval
-- args: approval task agent instance issuer role digest context_version needs shown ttl_ms:number most:integer most_of_agent:number retention:integer
--   freezable event outbox_limit:number
-- answer: 'asked' | 'known', id, record | 'denied', id | 'not_found' 'ended' 'frozen' 'stale' 'quota' 'outbox_full', detail
-- event: approval.asked; approval.expired for what is over
-- include: approval freeze
local task_key = base .. 'task:' .. task
local got = redis.call('HMGET', task_key, 's', 'an', 'rt', 'dl', 'fz', 'ec', 'cv')
if not got[1] then return { 'not_found' } end
if got[1] ~= 'active' then return { 'ended', got[1] } end
local above = ended_above(got[2])
if above or now >= tonumber(got[4]) then return { 'ended', above or 'expired' } end
if any_freeze() then
  local by = frozen(tokens_in(freezable, got[5]))
  if by then return { 'frozen', by } end
end
if got[7] ~= context_version then return { 'stale' } end

local of_task = task_key .. ':approvals'
local known = redis.call('HGET', of_task, 'd:' .. digest)
local record = known and read(base .. 'approval:' .. known)
if record then
  if record.s == 'd' then return { 'denied', known } end
  local over = approval_over(record)
  if not over then return { 'known', known, flat(record) } end
  expire_approval(known, record, over, event)
end
-- In the whole tree: who may hand work on to itself through others could ask for as much again in each child.
local tree = base .. 'task:' .. got[3] .. ':asking'
if tonumber(redis.call('HGET', tree, 'n:' .. agent) or 0) >= most then
  -- What a change of context made void makes room.
  local list = redis.call('HGETALL', tree)
  for i = 1, #list, 2 do
    local other = list[i + 1] == agent and read(base .. 'approval:' .. list[i])
    local over = other and approval_over(other)
    if over then expire_approval(list[i], other, over, event) end
  end
  if tonumber(redis.call('HGET', tree, 'n:' .. agent) or 0) >= most then return { 'quota', 'open approvals' } end
end
-- However many tasks it opened: humans who are asked too much agree to anything.
if tonumber(redis.call('HGET', base .. 'asking', agent) or 0) >= most_of_agent then return { 'quota', 'open approvals of the agent' } end
if outbox_full(outbox_limit) then return { 'outbox_full' } end

-- Who opened this task, or one above it, does not agree to what is asked for it.
local openers = {}
for id in string.gmatch(task .. ' ' .. got[2], '%S+') do
  local by = redis.call('HMGET', base .. 'task:' .. id, 'ok', 'oi', 'os', 'on')
  openers[#openers + 1] = { kind = by[1], id = by[2], issuer = by[3], instance = by[4] or nil }
end
record = {}
write(KEYS[1], record, 's', 'o', 't', task, 'rt', got[3], 'a', agent, 'is', issuer, 'ro', role, 'dg', digest, 'cv', got[7], 'ne', needs, 'sh', shown,
  'op', cjson.encode(openers), 'aa', now, 'xa', math.min(now + ttl_ms, tonumber(got[4])), 'dl', got[4], 'kp', retention)
if instance ~= '' then write(KEYS[1], record, 'i', instance) end
redis.call('ZADD', base .. 'approvals', record.xa, approval)
redis.call('HSET', of_task, 'd:' .. digest, approval)
count_asking(approval, record)
tell('approval.asked', event, 'approval', approval, 'expires', record.xa)
return { 'asked', approval, flat(record) }
