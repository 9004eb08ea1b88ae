#!lua flags=allow-oom
-- New facts of a task, which what is below inherits in the same step. Each task of which a decision could read something else now has a new
-- context version, and its live leases a term: who is not reaffirmed by then is closed by the sweeper, so a broker that dies in between fails closed.
-- What narrows never waits for the outbox (`outbox_limit` -1). `context_version`, unless empty, is what the change was decided on.
-- key: task
-- args: id context_version review_ms:number event outbox_limit:number
-- rest: fields
-- answer: 'ok', record, facts of the root, live leases as id, record | 'not_found' 'ended' 'stale' 'outbox_full'
-- event: task.changed
-- include: clock record event lineage inherit
local record = read(KEYS[1])
if not record then return { 'not_found' } end
if record.s ~= 'active' or ended_above(record.an) then return { 'ended' } end
if context_version ~= '' and record.cv ~= context_version then return { 'stale' } end
if outbox_limit >= 0 and outbox_full(outbox_limit) then return { 'outbox_full' } end

-- What decisions read of a task alone, as one text.
local function facts_of(one)
  return table.concat({ one['in'], one.cl, one.co, one.ca, one.en }, '\0')
end

for i = rest, #ARGV, 2 do
  if not ARGV[i + 1] then return redis.error_reply('ERR a field without a value') end
  if ARGV[i] == 'co' and not tonumber(ARGV[i + 1]) then return redis.error_reply('ERR a confidence that is no number') end
end

local before, stated = facts_of(record), record.si
for i = rest, #ARGV, 2 do
  local field = ARGV[i]
  -- The intent of a child is its parent's. What else is said of a child only ever adds to what it inherits.
  if record.pa and (field == 'ca' or field == 'co' or field == 'en') then
    write(KEYS[1], record, 'x:' .. field, ARGV[i + 1])
  elseif not record.pa or field == 'la' then
    write(KEYS[1], record, field, ARGV[i + 1])
  end
end
if record.pa then write(KEYS[1], record, inherited(read(base .. 'task:' .. record.pa), record)) end
local passed_on = facts_of(record) ~= before or record.si ~= stated

-- What decides nothing makes nothing stale, here and in each task below: whoever may only make things stricter cannot do so for ever.
local live, stack = {}, { { id, record, facts_of(record) ~= before } }
while #stack > 0 do
  local one, facts, changed = unpack(table.remove(stack))
  local key = base .. 'task:' .. one
  if changed then write(key, facts, 'cv', tonumber(facts.cv) + 1) end
  for _, lease in ipairs(redis.call('SMEMBERS', key .. ':live')) do
    local lease_key = base .. 'lease:' .. lease
    local held = read(lease_key)
    if held then
      if changed then write(lease_key, held, 'rb', now + review_ms) end
      if changed and held.s == 'a' then redis.call('ZADD', base .. 'due:' .. held.pr, 'LT', now + review_ms, lease) end
      live[#live + 1] = { lease, flat(held) }
    end
  end
  for _, child in ipairs(redis.call('SMEMBERS', key .. ':children')) do
    local below = read(base .. 'task:' .. child)
    if below then
      local was = facts_of(below)
      if passed_on then write(base .. 'task:' .. child, below, inherited(facts, below)) end
      stack[#stack + 1] = { child, below, facts_of(below) ~= was }
    end
  end
end
tell('task.changed', event)
return { 'ok', flat(record), redis.call('HMGET', base .. 'task:' .. record.rt, 'ob', 'c:read', 'c:write', 'c:escalate'), live }
