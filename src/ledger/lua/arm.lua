#!lua flags=allow-oom
-- Makes the partition one that brokers issue in: who has seen it knows it again by its mark. With `event` it is found to be an older one than the
-- broker knows (`least`): that is told, behind everything that was ever told, so that nobody finds it again; once, unless somebody knows more.
-- key: freezes
-- args: least_ms:integer least mark:integer event
-- answer: last event or '', mark, ids of the freezes of a quarantine or ''
-- event: quarantine.behind
-- include: event standing
local last_ms, last_n = string.match(standing()[1], '^(%d+)-(%d+)$')
last_ms, last_n = tonumber(last_ms or 0), tonumber(last_n or 0)
local known_n = tonumber(string.match(least, '-(%d+)$') or 0)
local is_behind = last_ms < least_ms or (last_ms == least_ms and last_n < known_n)
local is_armed = redis.call('HEXISTS', KEYS[1], 'mark') == 1
if event ~= '' and (is_behind or not is_armed) then
  local id = math.max(now, last_ms) > least_ms and '*' or string.format('%.0f-0', least_ms + 1)
  redis.call('XADD', base .. 'events', id, 'type', 'quarantine.behind', 'event', event, 'sub', string.sub(base, 5, 7))
end
if event ~= '' or not is_armed then
  local known = tonumber(redis.call('HGET', KEYS[1], 'mark') or 0)
  redis.call('HSET', KEYS[1], 'mark', string.format('%.0f', math.max(known, mark, is_armed and 0 or now)))
end
return standing()
