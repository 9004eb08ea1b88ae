#!lua flags=allow-oom
-- What has changed in a provider's list since version `after`, for who has seen version `seen` with this token; or, from `offset` on, a page
-- of what it holds, the last to pass first, which is where that begins anew if the list that was seen is another one: a part of it was lost.
-- Neither is ever more than `limit`. What has passed goes, and counts for nothing.
-- A list that is empty is named no more, but only from the second look on: who took the last entry out may have died before it told the
-- upstream. `look` is 1 in the first call of a read.
-- key: register
-- args: list hash seen:number token after:number offset:integer look:integer limit:integer
-- answer: now, version, token, offset of the page or -1, version up to which the changes are told,
--   `e<id>`, until, ... | of changes `<id>`, until, ... where until is nil once it has gone
-- event: none
-- include: register
local passed = redis.call('ZCOUNT', entries, 0, now)
if passed > 0 then
  local first = count_changes()
  local gone = math.min(passed, MOST_PASSED)
  redis.call('ZREMRANGEBYRANK', entries, first, first + gone - 1)
  changed(list, '-', gone, 0)
else
  local _, last = last_change()
  if (redis.call('HGET', KEYS[1], 'h:' .. list) or '') ~= last then
    -- One of the two keys is not what it was. Same version must mean same entries.
    changed(list, '-', 'lost', 0)
  elseif look == 1 then
    local count = count_changes()
    if redis.call('ZCARD', entries) == count then
      redis.call('SREM', KEYS[1] .. ':lists', list)
      if count > 1 then redis.call('ZREMRANGEBYRANK', entries, 1, -1) end
    end
  end
end

local is_known = has_been(seen, token)
local version = tonumber(redis.call('HGET', KEYS[1], 'v:' .. list) or 0)
if token ~= '' and not is_known and seen >= version then
  changed(list, '-', 'lost', seen)
  version = tonumber(redis.call('HGET', KEYS[1], 'v:' .. list))
end
local _, last = last_change()

if offset < 0 and is_known and (after == seen or redis.call('ZCOUNT', entries, -after, -after) == 1) then
  local found = redis.call('ZREVRANGEBYSCORE', entries, '(' .. string.format('%.0f', -after), '-inf', 'WITHSCORES', 'LIMIT', 0, limit)
  local reached = version
  if #found == 2 * limit then reached = -tonumber(found[#found]) end
  local told = {}
  for i = 1, #found, 2 do
    if string.sub(found[i], TOKEN_LENGTH + 2, TOKEN_LENGTH + 2) == '+' then
      local id = string.sub(found[i], TOKEN_LENGTH + 3)
      told[#told + 1] = id
      told[#told + 1] = redis.call('ZSCORE', entries, 'e' .. id)
    end
  end
  return { now, version, last, -1, reached, told }
end

if offset < 0 or not is_known then offset = 0 end
local stop = math.min(offset + limit, redis.call('ZCOUNT', entries, '(' .. string.format('%.0f', now), '+inf')) - 1
local page = {}
if stop >= offset then page = redis.call('ZREVRANGE', entries, offset, stop, 'WITHSCORES') end
return { now, version, last, offset, version, page }
