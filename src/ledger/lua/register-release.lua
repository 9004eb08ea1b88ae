#!lua flags=allow-oom
-- Gives back the right to write from a provider's list; only by who has it.
-- key: register
-- args: list token:number
-- answer: 1 | 0 when it is another's by now
-- event: none
if tonumber(redis.call('HGET', KEYS[1], 't:' .. list) or 0) ~= token then return 0 end
redis.call('HSET', KEYS[1], 'u:' .. list, 0)
return 1
