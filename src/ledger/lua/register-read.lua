#!lua flags=allow-oom
-- What a provider's list holds, without what has passed, which goes. A list that is empty is named no more, but only from the second
-- look on: who took the last entry out may have died before it told the upstream.
-- key: register
-- args: list hash
-- answer: version, id, until, ...
-- event: none
-- include: register
if redis.call('ZREMRANGEBYSCORE', entries, '-inf', now) > 0 then
  changed(list)
elseif redis.call('EXISTS', entries) == 0 then
  redis.call('SREM', KEYS[1] .. ':lists', list)
end
local answer = redis.call('ZRANGE', entries, 0, -1, 'WITHSCORES')
table.insert(answer, 1, redis.call('HGET', KEYS[1], 'v:' .. list) or '0')
return answer
