#!lua flags=no-writes
-- What is due, so that claims go only where there is something to take: in the partition of its key, and in those of `others`.
-- key: providers
-- args: standings:integer
-- rest: others
-- answer: of each partition: now, due tasks, index entries whose records have expired and approvals that are over, the partition's standing
--   where `standings` is 1, provider, due leases, ...
-- event: none
-- include: clock standing
local function look(providers)
  base = string.sub(providers, 1, 9)
  local over = redis.call('ZCOUNT', base .. 'settled', '-inf', now) + redis.call('ZCOUNT', base .. 'tasks', '(0', now)
    + redis.call('ZCOUNT', base .. 'approvals', '-inf', now)
  local found = { now, redis.call('ZCOUNT', base .. 'tasks:due', '-inf', now), over, standings == 1 and standing() or '' }
  for _, provider in ipairs(redis.call('SMEMBERS', providers)) do
    local due = redis.call('ZCOUNT', base .. 'due:' .. provider, '-inf', now) + redis.call('ZCOUNT', base .. 'urgent:' .. provider, '-inf', now)
    if due > 0 then
      found[#found + 1] = provider
      found[#found + 1] = due
    end
  end
  return found
end

local answer = { look(KEYS[1]) }
for i = rest, #ARGV do answer[#answer + 1] = look(ARGV[i]) end
return answer
