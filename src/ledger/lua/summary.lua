#!lua flags=no-writes
-- What this partition holds, and what of it is late: closing, or due and taken by nobody, for longer than `grace_ms`. What waits for its
-- upstream's expiry as it should is not late.
-- key: providers
-- args: grace_ms:number
-- answer: events in the outbox, unsettled leases, provider, late leases, since, ...
-- event: none
-- include: clock
local before = now - grace_ms
local answer = { redis.call('XLEN', base .. 'events'), 0 }
for _, provider in ipairs(redis.call('SMEMBERS', KEYS[1])) do
  local closing = base .. 'closing:' .. provider
  local late = redis.call('ZCOUNT', closing, '-inf', before)
  local oldest = tonumber(redis.call('ZRANGE', closing, 0, 0, 'WITHSCORES')[2] or now)
  for _, queue in ipairs({ 'due:', 'urgent:' }) do
    answer[2] = answer[2] + redis.call('ZCARD', base .. queue .. provider)
    local waiting = redis.call('ZRANGEBYSCORE', base .. queue .. provider, '-inf', before, 'WITHSCORES', 'LIMIT', 0, 1000)
    for i = 1, #waiting, 2 do
      if not redis.call('ZSCORE', closing, waiting[i]) then
        late = late + 1
        oldest = math.min(oldest, tonumber(waiting[i + 1]))
      end
    end
  end
  if late > 0 then
    answer[#answer + 1] = provider
    answer[#answer + 1] = late
    answer[#answer + 1] = oldest
  end
end
return answer
