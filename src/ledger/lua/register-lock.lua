#!lua flags=allow-oom
-- The right to write from a provider's list to its upstream, for `ms`. Tokens only grow, also past a ledger that was lost, because they
-- follow the clock. Also in a Redis that is full: this is how some providers revoke.
-- key: register
-- args: list ms:number
-- answer: token | 0 when somebody else has it
-- event: none
-- include: clock
local got = redis.call('HMGET', KEYS[1], 't:' .. list, 'u:' .. list)
if now < tonumber(got[2] or 0) then return 0 end
local token = math.max(tonumber(got[1] or 0) + 1, now)
redis.call('HSET', KEYS[1], 't:' .. list, token, 'u:' .. list, now + ms)
return token
