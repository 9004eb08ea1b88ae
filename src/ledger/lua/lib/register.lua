-- include: clock
-- The lists of one provider. KEYS[1] is a hash: `v:<list>` version, `h:<list>` token of its last change, `t:<list>` the last lock's token,
-- `u:<list>` until when it is held. Beside it `:lists` names the lists, and `:<hash>` is one list. Needs `hash`.
--
-- A list and the changes that led to it are one sorted set, so that no part of them can be lost or come back alone:
--     e<id>              an entry, by its end
--     c<token>+<id>      it was entered, or its end moved; by minus the version that this made
--     c<token>-          what had passed has gone, or a loss was noticed; likewise
-- A token is a digest of the one before it and of the change: whoever has the same token had the same list.
local entries = KEYS[1] .. ':' .. hash

local TOKEN_LENGTH = 20
-- Whoever read before all of these reads the whole list again.
local MOST_CHANGES = 10000
-- That go in one call.
local MOST_PASSED = 5000

-- How many of the set's members are changes; they come before all entries, the last change first.
local function count_changes()
  return redis.call('ZCOUNT', entries, '-inf', '(0')
end

local function token_in(change)
  return string.sub(change, 2, TOKEN_LENGTH + 1)
end

-- Version and token of the last change.
local function last_change()
  local found = redis.call('ZRANGE', entries, 0, 0, 'WITHSCORES')
  if not found[1] or tonumber(found[2]) > 0 then return 0, '' end
  return -tonumber(found[2]), token_in(found[1])
end

-- Whether the list has had this version, and was then as it was for whoever was told this token.
local function has_been(version, token)
  local found = redis.call('ZRANGEBYSCORE', entries, -version, -version, 'LIMIT', 0, 1)
  return found[1] ~= nil and token_in(found[1]) == token
end

-- Versions only grow, also past a ledger that was lost, because they follow the clock: some upstreams take a list only with a higher
-- number than the last. `more` is what the change is besides, `above` a version that is known otherwise.
local function changed(list, what, more, above)
  local at, token = last_change()
  local before = tonumber(redis.call('HGET', KEYS[1], 'v:' .. list) or 0)
  local version = math.max(before + 1, at + 1, above + 1, now)
  token = string.sub(redis.sha1hex(table.concat({ token, version, more, what }, ' ')), 1, TOKEN_LENGTH)
  redis.call('ZADD', entries, -version, 'c' .. token .. what)
  redis.call('HSET', KEYS[1], 'v:' .. list, version, 'h:' .. list, token)
  local count = count_changes()
  if count > MOST_CHANGES then redis.call('ZREMRANGEBYRANK', entries, MOST_CHANGES, count - 1) end
end
