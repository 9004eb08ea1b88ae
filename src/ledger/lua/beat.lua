#!lua flags=allow-oom
-- Notes when a broker was here, which it remembers itself too: a ledger that has forgotten it is an older one, whatever others did to it since.
-- `report`, unless empty, is what its log said when it was read again.
-- key: meta
-- args: name keep_ms:integer report
-- answer: now | 0 when there is no ledger
-- event: none
-- include:
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
redis.call('HSET', KEYS[1], 'beat:' .. name, now)
if report ~= '' then redis.call('HSET', KEYS[1], 'read:' .. name, report) end
-- Those of brokers that never came back.
for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
  if string.sub(field, 1, 5) == 'beat:' and now - tonumber(redis.call('HGET', KEYS[1], field)) > keep_ms then redis.call('HDEL', KEYS[1], field) end
end
return now
