#!lua flags=allow-oom
-- Takes what is due and re-checks and moves it in the same step: tasks past their deadline or heartbeat end, trees still to close go on,
-- leases become `closing` and are claimed up to the capacity of their provider, or `expired` where the upstream's expiry ends all use.
-- In quarantine what this ledger says of heartbeats and of leases that live may be old, and they are left alone; what is certain goes on.
-- key: providers
-- args: outage_from:number outage_to:number most_tasks:integer most_checks:integer budget:integer skew:number visibility:number
--   retention:integer event
-- rest: capacities
-- answer: claims, expired as lease provider agent, tasks ended, oldest due or 0, 1 when something is left that there is room for
-- event: task.ended, lease.closing, lease.expired, approval.expired
-- include: tree lineage over settle approval
for i = rest, #ARGV, 2 do
  if not tonumber(ARGV[i + 1]) then return redis.error_reply('ERR a capacity that is no number') end
end
local claims, expired, ended, oldest, more = {}, {}, 0, 0, 0
local in_quarantine = redis.call('HGET', base .. 'freezes', 'quarantine')
-- What is left alone is looked at again after so long.
local HELD_MS = 15000

local function late(due)
  if oldest == 0 or due < oldest then oldest = due end
end

-- Heartbeats that could not arrive are due later by as much of the outage as the task lived through.
local function heartbeat_due(record)
  local due, touched = tonumber(record.hd), tonumber(record.ht)
  if touched >= outage_to or due < outage_from then return due end
  return due + outage_to - math.max(outage_from, touched)
end

local function sweep_task(id, due)
  local key = base .. 'task:' .. id
  local record = read(key)
  if not record then return redis.call('ZREM', base .. 'tasks:due', id) end
  local state, cause, reason = record.s, record.ec, record.re or ''
  if state == 'active' then
    state, cause = ended_above(record.an)
    reason = 'a task above it ended'
    if not state and tonumber(record.dl) <= now then
      state, cause, reason = 'expired', 'task_expired', 'deadline'
    elseif not state and record.hd then
      local heartbeat = heartbeat_due(record)
      if heartbeat <= now and in_quarantine then
        return redis.call('ZADD', base .. 'tasks:due', math.min(now + HELD_MS, tonumber(record.dl)), id)
      elseif heartbeat <= now then
        state, cause, reason = 'failed', 'heartbeat_missed', 'heartbeat missed'
      else
        if heartbeat ~= tonumber(record.hd) then redis.call('HSET', key, 'hd', heartbeat, 'ht', outage_to) end
        return redis.call('ZADD', base .. 'tasks:due', math.min(heartbeat, tonumber(record.dl)), id)
      end
    elseif not state then
      return redis.call('ZADD', base .. 'tasks:due', record.dl, id)
    end
    ended = ended + 1
    late(due)
  end
  budget = end_tree(id, state, cause, reason, nil, event, budget, 0)
end

local tasks = redis.call('ZRANGEBYSCORE', base .. 'tasks:due', '-inf', now, 'WITHSCORES', 'LIMIT', 0, most_tasks)
for i = 1, #tasks, 2 do
  if budget > 0 then sweep_task(tasks[i], tonumber(tasks[i + 1])) end
end
if redis.call('ZCOUNT', base .. 'tasks:due', '-inf', now) > 0 then more = 1 end

-- Answers true when the lease was claimed, nil when it needed no claim, false when it needs one and there is no room.
local function sweep_lease(id, room)
  local key = base .. 'lease:' .. id
  if room <= 0 then
    -- Closing already, and never over by itself: most of a long line, and nothing to read of it before there is room.
    local got = redis.call('HMGET', key, 's', 'xe')
    if got[1] == 'c' and not got[2] then return false end
  end
  local record = read(key)
  if not record or settled(record) then return nil, true end
  -- It may have been renewed, or minted, since: no renewal goes beyond `ru`.
  if in_quarantine and is_live(record) and now < tonumber(record.ru) then
    redis.call('ZADD', due_key(record), math.min(now + HELD_MS, tonumber(record.ru)), id)
    return nil
  end
  if record.s ~= 'p' and is_over(record) then
    if record.s == 'a' then write(key, record, 'ca', 'expired', 'cl', now) end
    settle_lease(id, record, 'e')
    tell('lease.expired', event, 'sub', id, 'lease', id, 'task', record.t, 'agent', record.a, 'role', record.ro, 'provider', record.pr, 'cause',
      record.ca)
    expired[#expired + 1] = { id, record.pr, record.a }
    return nil
  end
  if is_live(record) then
    local due = due_at(record)
    if now < due then
      -- Due too early: back to when it really is.
      redis.call('ZADD', due_key(record), due, id)
      return nil
    end
    local cause = 'expired'
    if record.s == 'p' then
      cause = 'mint_timeout'
    elseif record.rb and tonumber(record.rb) <= now then
      cause = 'context_changed'
    end
    -- Closing does not wait for room: only the claim does.
    close_lease(id, record, cause, event, true)
  end
  if room <= 0 then return false end
  claims[#claims + 1] = take(id, record)
  return true
end

for i = rest, #ARGV, 2 do
  local provider, room = ARGV[i], tonumber(ARGV[i + 1])
  for _, queue in ipairs({ 'urgent:', 'due:' }) do
    local key = base .. queue .. provider
    local due = redis.call('ZRANGEBYSCORE', key, '-inf', now, 'WITHSCORES', 'LIMIT', 0, room + most_checks)
    for j = 1, #due, 2 do
      local took, gone = sweep_lease(due[j], room)
      if gone then redis.call('ZREM', key, due[j]) end
      if took then room = room - 1 end
      if took ~= false then late(tonumber(due[j + 1])) end
    end
    if room > 0 and redis.call('ZCOUNT', key, '-inf', now) > 0 then more = 1 end
  end
end

-- Nobody answered in time, or nobody used the answer.
local unanswered = redis.call('ZRANGEBYSCORE', base .. 'approvals', '-inf', now, 'LIMIT', 0, most_checks)
for _, id in ipairs(unanswered) do
  local record = read(base .. 'approval:' .. id)
  if record then
    expire_approval(id, record, approval_over(record) or 'expired', event)
  else
    redis.call('ZREM', base .. 'approvals', id)
  end
end
if #unanswered == most_checks then more = 1 end

-- Index entries of records that Redis has expired.
redis.call('ZREMRANGEBYSCORE', base .. 'settled', '-inf', now)
redis.call('ZREMRANGEBYSCORE', base .. 'tasks', '(0', now)
return { claims, expired, ended, oldest, more }
