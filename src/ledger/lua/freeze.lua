#!lua flags=allow-oom
-- Writes a freeze ('F') or the tombstone of a thaw ('T') into this partition. The highest generation wins, so that it may be repeated
-- and applied in any order. With `revocation`, the emergency that goes with it is opened in the same step: nobody finds the one without the other.
-- key: freezes
-- args: id kind generation:number json shape event type known:integer revocation selector reason by verify started
-- rest: fields
-- answer: 1 | 0 when it is there already, or something newer is; the mark of the partition (lib/freeze.lua); when the emergency started
-- event: freeze.set | freeze.thawed, in the freeze's own partition; revocation.started
-- include: event revocation
local was = redis.call('HGET', KEYS[1], '#' .. id)
local opened = ''
-- Told once, whoever brought it here: another broker may have done so before the one that was asked could.
if event ~= '' and tonumber(redis.call('HGET', KEYS[1], '!' .. kind .. id) or 0) < generation then
  redis.call('HSET', KEYS[1], '!' .. kind .. id, string.format('%.0f', generation))
  tell(type, event)
end
if was and tonumber(string.match(was, '^%a(%d+)')) >= generation then
  if revocation ~= '' then opened = open_revocation(revocation, selector, reason, by, id, verify, started) end
  return { 0, redis.call('HGET', KEYS[1], 'mark') or '0', opened }
end
for i = rest, #ARGV do
  local ids = {}
  for one in string.gmatch(redis.call('HGET', KEYS[1], ARGV[i]) or '', '%S+') do
    if one ~= id then ids[#ids + 1] = one end
  end
  if kind == 'F' then ids[#ids + 1] = id end
  if #ids > 0 then
    redis.call('HSET', KEYS[1], ARGV[i], table.concat(ids, ' '))
  else
    redis.call('HDEL', KEYS[1], ARGV[i])
  end
end
local was_live = was and string.sub(was, 1, 1) == 'F'
if kind == 'F' and not was_live then
  redis.call('HINCRBY', KEYS[1], 'live', 1)
elseif kind == 'T' and was_live then
  redis.call('HINCRBY', KEYS[1], 'live', -1)
end
redis.call('HSET', KEYS[1], '#' .. id, kind .. string.format('%.0f', generation) .. ' ' .. json)
-- A combination of dimensions that was ever frozen costs a lookup only while some freeze is in force.
if kind == 'F' and shape ~= '' then
  local shapes = redis.call('HGET', KEYS[1], 'shapes') or ''
  if not string.find(' ' .. shapes .. ' ', ' ' .. shape .. ' ', 1, true) then
    redis.call('HSET', KEYS[1], 'shapes', shapes == '' and shape or shapes .. ' ' .. shape)
  end
end
if revocation ~= '' then opened = open_revocation(revocation, selector, reason, by, id, verify, started) end
-- A Redis that has forgotten this one is told by it; never ahead of the clock, which is all that is known of it elsewhere. Not where the broker
-- knows a higher one already: this is such a Redis.
local mark = redis.call('HGET', KEYS[1], 'mark')
if mark and tonumber(mark) >= known and tonumber(mark) < math.min(generation, now) then
  mark = string.format('%.0f', math.min(generation, now))
  redis.call('HSET', KEYS[1], 'mark', mark)
end
return { 1, mark or '0', opened }
