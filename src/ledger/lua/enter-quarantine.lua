#!lua flags=allow-oom
-- Writes down that this ledger is in quarantine, before any partition is. Not where others found it out before.
-- `least`: the generation that its broker knows, and the ledger may have forgotten. `since`: what was told from then on may be lost.
-- key: meta
-- args: least:integer since:integer record
-- answer: 1 when it is this one, 0 when there was one
-- event: none; quarantine.entered is each partition's
-- include:
if redis.call('EXISTS', KEYS[1]) == 0 then return redis.error_reply('ERR there is no ledger') end
local generation = tonumber(redis.call('HGET', KEYS[1], 'generation') or 1)
if generation > least then return 0 end
generation = least + 1
redis.call('HSET', KEYS[1], 'generation', generation, 'quarantine', record, 'since:' .. generation, since)
redis.call('HDEL', KEYS[1], 'lifted')
for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
  if string.sub(field, 1, 5) == 'read:' then redis.call('HDEL', KEYS[1], field) end
end
return 1
