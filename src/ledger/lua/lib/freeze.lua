-- include: clock
-- Freezes of this partition, in one hash: `live` counts them, `all` and `<dimension>=<value>` (joined by `&` in a fixed order, values
-- percent-encoded) hold the ids of those in force, `shapes` lists the combinations of dimensions in use, `#<id>` holds the records, `digest` is a sum over
-- the hashes of all of these, whatever their order.

local function any_freeze()
  local live = redis.call('HGET', base .. 'freezes', 'live')
  return live and live ~= '0'
end

-- Whether this partition must not issue at all: it is in quarantine, or behind `mark`, up to where its broker knows its events to be written down
-- outside of Redis, so that it was emptied or is an older one. Answers with the same command whether some freeze is in force. Needs `mark`.
local function barred()
  local got = redis.call('HMGET', base .. 'freezes', 'live', 'quarantine', 'mark')
  if got[2] or not got[3] or tonumber(got[3]) < mark then return true end
  return false, got[1] and got[1] ~= '0'
end

-- The ids of a freeze that covers something with these `dimension=value` tokens, or nil. A dimension may have several values: an
-- agent is also covered through the tasks that it opened, a task through those above it.
local function frozen(tokens)
  local got = redis.call('HMGET', base .. 'freezes', 'all', 'shapes', unpack(tokens))
  if got[1] then return got[1] end
  for i = 3, #got do
    if got[i] then return got[i] end
  end
  if not got[2] then return nil end
  local by_dimension = {}
  for _, token in ipairs(tokens) do
    local dimension = string.match(token, '^[^=]+')
    by_dimension[dimension] = by_dimension[dimension] or {}
    table.insert(by_dimension[dimension], token)
  end
  for shape in string.gmatch(got[2], '%S+') do
    local combinations = { '' }
    for dimension in string.gmatch(shape, '[^&]+') do
      local longer = {}
      for _, prefix in ipairs(combinations) do
        for _, token in ipairs(by_dimension[dimension] or {}) do
          longer[#longer + 1] = prefix == '' and token or (prefix .. '&' .. token)
        end
      end
      combinations = longer
    end
    for _, field in ipairs(combinations) do
      local ids = redis.call('HGET', base .. 'freezes', field)
      if ids then return ids end
    end
  end
  return nil
end

-- The tokens of a lease and of its task (`fz`), each a text with spaces between them.
local function tokens_in(own, of_task)
  local tokens = {}
  for token in string.gmatch(own .. ' ' .. (of_task or ''), '%S+') do tokens[#tokens + 1] = token end
  return tokens
end
