-- include: clock record
-- Which leases a selector covers. `selector` is JSON: `{all}` or `{dims: {<dimension>: {raw: {<value>: 1}, tokens: {<token>: 1}}}}`.
-- An issuer covers also what rests on a token of a human's that it issued. A human is found by `hk`, the name in small letters, where that is another than `h`.
-- A lease is covered by its own values; by agent, owner, task and issuer also through its task, and those above it.
local FIELDS = { agent = 'a', task = 't', role = 'ro', provider = 'pr', issuer = 'is', owner = 'o', human = 'h', orchestrator = 'or' }
local THROUGH_TASKS = { agent = true, owner = true, task = true, issuer = true }
local task_tokens = {}

local function tokens_of(task)
  if not task_tokens[task] then task_tokens[task] = redis.call('HGET', base .. 'task:' .. task, 'fz') or '' end
  return task_tokens[task]
end

local function covered(record, values, dimension)
  local own = dimension == 'human' and record.hk or record[FIELDS[dimension]]
  if own and values.raw[own] then return true end
  if dimension == 'issuer' and record.hp and values.raw[cjson.decode(record.hp).issuer] then return true end
  if not THROUGH_TASKS[dimension] then return false end
  for token in string.gmatch(tokens_of(record.t), '%S+') do
    if values.tokens[token] then return true end
  end
  return false
end

local function matches(record, selector)
  if selector.all then return true end
  for dimension, values in pairs(selector.dims) do
    if not covered(record, values, dimension) then return false end
  end
  return true
end

-- What `matches` reads of a lease for this selector, besides its state and the emergencies that have it (`em`).
local function fields_for(selector)
  local fields = { 's', 'em', 't' }
  for dimension in pairs(selector.dims or {}) do
    fields[#fields + 1] = FIELDS[dimension]
    if dimension == 'human' then fields[#fields + 1] = 'hk' end
    if dimension == 'issuer' then fields[#fields + 1] = 'hp' end
  end
  return fields
end

-- The record at `key` where the selector covers it and emergency `but` has it not yet, or nil. Of all the others, which may be most, no more
-- is read than what tells them apart.
local function read_matching(key, selector, fields, but)
  local got = redis.call('HMGET', key, unpack(fields))
  if not got[1] or string.find(' ' .. (got[2] or '') .. ' ', ' ' .. but .. ' ', 1, true) then return nil end
  local seen = {}
  for i, field in ipairs(fields) do seen[field] = got[i] or nil end
  return matches(seen, selector) and read(key) or nil
end

-- The next page of unsettled leases, of those that `selector` may cover where there is one, from `cursor`: `<queue> <provider> <scan cursor>`, empty to begin with; 'done' at the end.
-- Queue `due` is walked before `urgent`, since leases only move from the first to the second.
-- SCAN guarantees what was there all the time is seen, even while scores change.
local function page_of(cursor, size, selector)
  local only = selector and selector.dims and selector.dims.provider
  local providers = {}
  for _, provider in ipairs(redis.call('SMEMBERS', base .. 'providers')) do
    if not only or only.raw[provider] then providers[#providers + 1] = provider end
  end
  table.sort(providers)
  local queue, at, scan = string.match(cursor, '^(%S+) (%S+) (%S+)$')
  if not queue then queue, at, scan = 'due', '', '0' end
  for _, provider in ipairs(providers) do
    if provider >= at then
      if provider > at then scan = '0' end
      local got = redis.call('ZSCAN', base .. queue .. ':' .. provider, scan, 'COUNT', size)
      local ids = {}
      for i = 1, #got[2], 2 do ids[#ids + 1] = got[2][i] end
      if got[1] ~= '0' then return ids, queue .. ' ' .. provider .. ' ' .. got[1] end
      -- A name after this one, and before any other.
      return ids, queue .. ' ' .. provider .. '\1 0'
    end
  end
  if queue == 'due' then return {}, 'urgent \1 0' end
  return {}, 'done'
end
