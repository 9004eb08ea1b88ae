#!lua
-- New facts of a task: bumps the context version of the tree, and sets a term on the live leases of the task and of all below it. Who is
-- not reaffirmed by then is closed by the sweeper, so a broker that dies in between fails closed. Never waits for the outbox: it narrows.
-- key: task
-- args: id review_ms:number event
-- rest: fields
-- answer: 'ok', record, facts of the root, live leases as id, record | 'not_found' 'ended'
-- event: task.changed
-- include: clock record event lineage
local record = read(KEYS[1])
if not record then return { 'not_found' } end
if record.s ~= 'active' or ended_above(record.an) then return { 'ended' } end
for i = rest, #ARGV, 2 do write(KEYS[1], record, ARGV[i], ARGV[i + 1]) end
local root_key = base .. 'task:' .. record.rt
redis.call('HINCRBY', root_key, 'cv', 1)

local live, stack = {}, { id }
while #stack > 0 do
  local key = base .. 'task:' .. table.remove(stack)
  for _, lease in ipairs(redis.call('SMEMBERS', key .. ':live')) do
    local lease_key = base .. 'lease:' .. lease
    local one = read(lease_key)
    if one then
      write(lease_key, one, 'rb', now + review_ms)
      if one.s == 'a' then redis.call('ZADD', base .. 'due:' .. one.pr, 'LT', now + review_ms, lease) end
      live[#live + 1] = { lease, flat(one) }
    end
  end
  for _, child in ipairs(redis.call('SMEMBERS', key .. ':children')) do stack[#stack + 1] = child end
end
tell('task.changed', event)
return { 'ok', flat(record), redis.call('HMGET', root_key, 'cv', 'ob', 'c:read', 'c:write', 'c:escalate'), live }
