#!lua
-- Records that a call of a tool is allowed, unless its task has ended, a freeze covers it, or the decision was made on facts that changed: what
-- is recorded is what may be done. Counts it where the task, or one above it, says how often the tool may be called.
-- key: task
-- args: task agent instance tool tag freezable context_version obtained counts lease max_calls:number event outbox_limit:number
--   mark:integer
-- answer: 'ok', what the tree obtained if it changed
--   | 'quarantined' 'not_found' 'ended' 'not_assigned' 'frozen' 'stale' 'lease' 'calls' 'outbox_full', detail
-- event: tool.called
-- include: clock event freeze binding obtained
local is_barred, any_frozen = barred()
if is_barred then return { 'quarantined' } end
local calls_field = 'T:' .. tool
local record = redis.call('HMGET', KEYS[1], 's', 'an', 'rt', 'dl', 'A:' .. agent, 'fz', 'cv', 'ob', calls_field)
if not record[1] then return { 'not_found' } end
if record[1] ~= 'active' then return { 'ended', record[1] } end
if now >= tonumber(record[4]) then return { 'ended', 'expired' } end

-- How often a task lets the tool be called, ever; nil: as often as may be.
local function most_of(key)
  for _, entry in ipairs(cjson.decode(redis.call('HGET', key, 'tl') or '[]')) do
    if entry.tool == tool then return entry.maxCalls end
  end
end

local root_key, cv, ob = KEYS[1], record[7], record[8]
-- Tasks that count the call, each with its limit.
local counting = {}
if max_calls >= 0 then counting[1] = { KEYS[1], max_calls, tonumber(record[9] or 0) } end
if record[3] ~= task then
  root_key = base .. 'task:' .. record[3]
  for id in string.gmatch(record[2], '%S+') do
    local key = base .. 'task:' .. id
    local above = redis.call('HGET', key, 's')
    if above ~= 'active' then return { 'ended', above or 'revoked' } end
    -- Who limits it limits it for all below; and what is below then has a limit too.
    local most = max_calls >= 0 and most_of(key)
    if most then counting[#counting + 1] = { key, most, tonumber(redis.call('HGET', key, calls_field) or 0) } end
  end
  ob = redis.call('HGET', root_key, 'ob')
end

local may, bindings = false, nil
if record[5] then may, bindings = split_binding(record[5], instance) end
if not may then return { 'not_assigned' } end

if any_frozen then
  local by = frozen(tokens_in(freezable, record[6]))
  if by then return { 'frozen', by } end
end

if cv ~= context_version or (ob or '') ~= obtained then return { 'stale' } end
if counts ~= '' then
  local got = redis.call('HMGET', root_key, 'c:read', 'c:write', 'c:escalate')
  if counts ~= (got[1] or '0') .. ',' .. (got[2] or '0') .. ',' .. (got[3] or '0') then return { 'stale' } end
end

if lease ~= '' then
  local held = redis.call('HMGET', base .. 'lease:' .. lease, 't', 'a', 'i', 's', 'xa', 'ro', 'pr')
  local own = held[1] == task and held[2] == agent and (held[3] or '') == instance
  if not own or held[4] ~= 'a' or now >= tonumber(held[5]) then return { 'lease' } end
  -- A freeze of its role or provider covers what is done with it. Their names need no encoding.
  if any_freeze() then
    local by = frozen(tokens_in(freezable .. ' role=' .. held[6] .. ' provider=' .. held[7], record[6]))
    if by then return { 'frozen', by } end
  end
end

for _, one in ipairs(counting) do
  if one[3] >= one[2] then return { 'calls' } end
end
if outbox_full(outbox_limit) then return { 'outbox_full' } end

-- From here on only writes.
for _, one in ipairs(counting) do redis.call('HINCRBY', one[1], calls_field, 1) end
if bindings then redis.call('HSET', KEYS[1], 'A:' .. agent, bindings) end
local changed = obtained_with(ob or '', tag)
if changed then redis.call('HSET', root_key, 'ob', changed) end
tell('tool.called', event)
return { 'ok', changed or '' }
