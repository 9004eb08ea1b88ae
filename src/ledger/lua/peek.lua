#!lua flags=no-writes
-- What is due in this partition, so that claims go only where there is something to take.
-- key: providers
-- args:
-- answer: now, due tasks, index entries whose records have expired and approvals that are over, the partition's standing, provider, due leases, ...
-- event: none
-- include: clock standing
local over = redis.call('ZCOUNT', base .. 'settled', '-inf', now) + redis.call('ZCOUNT', base .. 'tasks', '(0', now)
  + redis.call('ZCOUNT', base .. 'approvals', '-inf', now)
local answer = { now, redis.call('ZCOUNT', base .. 'tasks:due', '-inf', now), over, standing() }
for _, provider in ipairs(redis.call('SMEMBERS', KEYS[1])) do
  local due = redis.call('ZCOUNT', base .. 'due:' .. provider, '-inf', now) + redis.call('ZCOUNT', base .. 'urgent:' .. provider, '-inf', now)
  if due > 0 then
    answer[#answer + 1] = provider
    answer[#answer + 1] = due
  end
end
return answer
