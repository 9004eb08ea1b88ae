#!lua flags=allow-oom
-- Writes a freeze ('F') or the tombstone of a thaw ('T') into the partition of its key, and into those of `others` (key, known, ...). The highest
-- generation wins, so that it may be repeated and applied in any order. Its event is told in the partition of the key, once; `told` says that it was told
-- elsewhere. With `revocation` the emergency that goes with it is opened there in the same step: nobody finds the one without the other.
-- key: freezes
-- args: id kind generation:integer json shape fields event about told:integer known:integer revocation selector reason by verify started
-- rest: others
-- answer: when the emergency started or '', the mark (lib/freeze.lua) of each partition
-- event: freeze.set | freeze.thawed, in the freeze's own partition; revocation.started
-- include: event revocation
local names, places = cjson.decode(fields), {}
if type(names) ~= 'table' then return redis.error_reply('ERR the fields of a freeze are no list') end
for _, name in ipairs(names) do
  if type(name) ~= 'string' then return redis.error_reply('ERR a field of a freeze is no text') end
end
if (kind ~= 'F' and kind ~= 'T') or generation < 0 then return redis.error_reply('ERR a freeze of no kind, or from before all time') end

-- All that is there is read before anything is written: a script that fails in between leaves half of it.
local function add_place(freezes, there)
  local got = redis.call('HMGET', freezes, '#' .. id, 'mark', 'digest')
  local before = string.match(got[1] or '', '^%a%d+')
  places[#places + 1] = {
    freezes = freezes,
    there = there,
    before = before,
    is_live = before and string.sub(before, 1, 1) == 'F',
    was = before and tonumber(string.sub(before, 2)) or -1,
    mark = tonumber(got[2] or nil),
    digest = tonumber(got[3] or 0),
  }
end
add_place(KEYS[1], known)
for i = rest, #ARGV, 2 do
  local there = tonumber(ARGV[i + 1])
  if not there or not string.find(ARGV[i], '^mf:{p%d%d}:freezes$') then return redis.error_reply('ERR a place of a freeze is none') end
  add_place(ARGV[i], there)
end

local function hash(version)
  return version and tonumber(string.sub(redis.sha1hex(id .. ' ' .. version), 1, 12), 16) or 0
end

local function write_one(place)
  local freezes, was_live = place.freezes, place.is_live
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
  if kind == 'F' and not was_live then
    redis.call('HINCRBY', freezes, 'live', 1)
  elseif kind == 'T' and was_live then
    redis.call('HINCRBY', freezes, 'live', -1)
  end
  local version = kind .. string.format('%.0f', generation)
  local digest = (place.digest - hash(place.before) + hash(version)) % 2 ^ 48
  redis.call('HSET', freezes, '#' .. id, version .. ' ' .. json, 'digest', string.format('%.0f', digest))
  -- By the clock that the leases of this partition were issued by: what came after the thaw is no part of an emergency.
  -- Of one that is brought back, what is known of when that was.
  if kind == 'T' then redis.call('HSETNX', freezes, '@' .. id, string.format('%.0f', told == 1 and math.min(generation, now) or now)) end
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
local function raised(place)
  local mark, new = place.mark, math.min(generation, now)
  if not mark or mark < place.there or mark >= new then return mark or 0 end
  redis.call('HSET', place.freezes, 'mark', string.format('%.0f', new))
  return new
end

-- Told once, whoever brought it here: another broker may have done so before the one that was asked could.
if event ~= '' or told == 1 then
  local marker = '!' .. kind .. id
  if tonumber(redis.call('HGET', KEYS[1], marker) or 0) < generation then
    redis.call('HSET', KEYS[1], marker, string.format('%.0f', generation))
    if event ~= '' then tell(about, event) end
  end
end
local answer = { '' }
for n, place in ipairs(places) do
  if place.was >= generation then
    answer[n + 1] = string.format('%.0f', place.mark or 0)
  else
    write_one(place)
    answer[n + 1] = string.format('%.0f', raised(place))
  end
end
-- The freeze holds, whatever keeps the emergency from being opened; who asked opens it by itself then, or says why not.
if revocation ~= '' then
  local ok, at = pcall(open_revocation, revocation, selector, reason, by, id, verify, started)
  if ok then answer[1] = at end
end
return answer
