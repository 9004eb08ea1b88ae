#!lua flags=allow-oom
-- Writes a freeze ('F') or the tombstone of a thaw ('T') into the partition of its key, and into those of `others` (key, known, ...). The highest generation wins, so
-- that it may be repeated and applied in any order. Its event is told in the partition of the key, and there with `revocation` the emergency that
-- goes with it is opened, in the same step: nobody finds the one without the other.
-- key: freezes
-- args: id kind generation:number json shape fields event about known:integer revocation selector reason by verify started
-- rest: others
-- answer: when the emergency started or '', the mark (lib/freeze.lua) of each partition
-- event: freeze.set | freeze.thawed, in the freeze's own partition; revocation.started
-- include: event revocation
local names, places = cjson.decode(fields), { { KEYS[1], known } }
if type(names) ~= 'table' then return redis.error_reply('ERR the fields of a freeze are no list') end
for _, name in ipairs(names) do
  if type(name) ~= 'string' then return redis.error_reply('ERR a field of a freeze is no text') end
end
for i = rest, #ARGV, 2 do
  local there = tonumber(ARGV[i + 1])
  if not there or not string.find(ARGV[i], '^mf:{p%d%d}:freezes$') then return redis.error_reply('ERR a place of a freeze is none') end
  places[#places + 1] = { ARGV[i], there }
end

local function write_one(freezes, was)
  for _, name in ipairs(names) do
    local ids = {}
    for one in string.gmatch(redis.call('HGET', freezes, name) or '', '%S+') do
      if one ~= id then ids[#ids + 1] = one end
    end
    if kind == 'F' then ids[#ids + 1] = id end
    if #ids > 0 then
      redis.call('HSET', freezes, name, table.concat(ids, ' '))
    else
      redis.call('HDEL', freezes, name)
    end
  end
  local was_live = was and string.sub(was, 1, 1) == 'F'
  if kind == 'F' and not was_live then
    redis.call('HINCRBY', freezes, 'live', 1)
  elseif kind == 'T' and was_live then
    redis.call('HINCRBY', freezes, 'live', -1)
  end
  redis.call('HSET', freezes, '#' .. id, kind .. string.format('%.0f', generation) .. ' ' .. json)
  -- A combination of dimensions that was ever frozen costs a lookup only while some freeze is in force.
  if kind == 'F' and shape ~= '' then
    local shapes = redis.call('HGET', freezes, 'shapes') or ''
    if not string.find(' ' .. shapes .. ' ', ' ' .. shape .. ' ', 1, true) then
      redis.call('HSET', freezes, 'shapes', shapes == '' and shape or shapes .. ' ' .. shape)
    end
  end
end

-- A Redis that has forgotten this freeze is told by the mark; never ahead of the clock, which is all that is known of it elsewhere. Not where the
-- broker knows a higher one already: this is such a Redis.
local function raise_mark(freezes, there)
  local mark = redis.call('HGET', freezes, 'mark')
  if not mark or tonumber(mark) < there or tonumber(mark) >= math.min(generation, now) then return mark or '0' end
  mark = string.format('%.0f', math.min(generation, now))
  redis.call('HSET', freezes, 'mark', mark)
  return mark
end

-- Told once, whoever brought it here: another broker may have done so before the one that was asked could.
if event ~= '' and tonumber(redis.call('HGET', KEYS[1], '!' .. kind .. id) or 0) < generation then
  redis.call('HSET', KEYS[1], '!' .. kind .. id, string.format('%.0f', generation))
  tell(about, event)
end
local answer = { '' }
for n, place in ipairs(places) do
  local freezes, there = place[1], place[2]
  local was = redis.call('HGET', freezes, '#' .. id)
  if was and tonumber(string.match(was, '^%a(%d+)')) >= generation then
    answer[n + 1] = redis.call('HGET', freezes, 'mark') or '0'
  else
    write_one(freezes, was)
    answer[n + 1] = raise_mark(freezes, there)
  end
end
if revocation ~= '' then answer[1] = open_revocation(revocation, selector, reason, by, id, verify, started) end
return answer
