-- include: clock record event lineage
-- A human's consent to one exact request: `o`pen -> `g`ranted -> `b`ound to a pending lease -> `s`pent by the lease that became active; or
-- `d`enied, or e`x`pired. Open and granted ones are in `approvals`, by when they are over. `task:<id>:approvals` holds, of a task that
-- goes on, `d:<digest>` -> the approval of that request, denied ones too. `task:<root>:asking` holds, of a whole tree, each that is not over ->
-- whose it is, and `n:<agent>` -> how many of its; `asking` counts those of each agent in all tasks of the partition.

-- Why an open or granted approval can no longer be used, or nil.
local function approval_over(record)
  if record.s ~= 'o' and record.s ~= 'g' then return nil end
  local got = redis.call('HMGET', base .. 'task:' .. record.t, 's', 'an', 'cv', 'dl', 'ec')
  if got[1] ~= 'active' then return got[5] or 'task_revoked' end
  local _, above = ended_above(got[2])
  if above then return above end
  if now >= tonumber(got[4]) then return 'task_expired' end
  if got[3] ~= record.cv then return 'context_changed' end
  if now >= tonumber(record.xa) then return 'expired' end
  return nil
end

local function add_to(key, field, more)
  if redis.call('HINCRBY', key, field, more) <= 0 then redis.call('HDEL', key, field) end
end

-- One approval more is not over.
local function count_asking(id, record)
  local tree = base .. 'task:' .. record.rt .. ':asking'
  redis.call('HSET', tree, id, record.a)
  add_to(tree, 'n:' .. record.a, 1)
  add_to(base .. 'asking', record.a, 1)
end

-- One is. The tree's are forgotten with its root.
local function discount_asking(id, record)
  local tree = base .. 'task:' .. record.rt .. ':asking'
  if redis.call('HDEL', tree, id) == 1 then add_to(tree, 'n:' .. record.a, -1) end
  add_to(base .. 'asking', record.a, -1)
end

-- The end of an approval. A denial is remembered for as long as its task may live, since the same request is not put to anybody again; and
-- so is what was spent, since the lease may be decided anew.
local function end_approval(id, record, state)
  local key = base .. 'approval:' .. id
  local of_task = base .. 'task:' .. record.t .. ':approvals'
  local keep = tonumber(record.kp)
  if state == 'd' or state == 's' then keep = keep + math.max(0, math.ceil((tonumber(record.dl) - now) / 1000)) end
  write(key, record, 's', state, 'sa', now)
  redis.call('EXPIRE', key, keep)
  redis.call('ZREM', base .. 'approvals', id)
  discount_asking(id, record)
  if state ~= 'd' and redis.call('HGET', of_task, 'd:' .. record.dg) == id then redis.call('HDEL', of_task, 'd:' .. record.dg) end
end

local function tell_of_approval(type, id, record, json, ...)
  tell(type, json, 'sub', id, 'approval', id, 'task', record.t, 'agent', record.a, 'role', record.ro, ...)
end

local function expire_approval(id, record, cause, json)
  write(base .. 'approval:' .. id, record, 'ca', cause)
  end_approval(id, record, 'x')
  tell_of_approval('approval.expired', id, record, json, 'cause', cause)
end

-- The approval that a request presents, or nil and why it is none for it.
local function usable_approval(id, digest, task_id, agent_id)
  local record = read(base .. 'approval:' .. id)
  if not record or record.t ~= task_id or record.a ~= agent_id then return nil, 'there is none' end
  if record.dg ~= digest then return nil, 'it was given for another request' end
  if record.s ~= 'g' then return nil, record.s end
  local over = approval_over(record)
  if over then return nil, over end
  return record
end

-- Spends it; told with the event of what spent it.
local function spend_approval(id, record, lease_id, json)
  write(base .. 'approval:' .. id, record, 'le', lease_id)
  end_approval(id, record, 's')
  tell_of_approval('approval.spent', id, record, json, 'lease', lease_id)
end

-- Holds it for a lease that is not active yet: nobody else may use it, and no time takes it away.
local function bind_approval(id, record, lease_id)
  write(base .. 'approval:' .. id, record, 's', 'b', 'le', lease_id)
  redis.call('ZREM', base .. 'approvals', id)
end

-- Gives back what a lease held that is settled and never was active.
local function free_approval(id, lease_id, json)
  local key = base .. 'approval:' .. id
  local record = read(key)
  if not record or record.s ~= 'b' or record.le ~= lease_id then return end
  write(key, record, 's', 'g')
  erase(key, record, 'le')
  local over = approval_over(record)
  if over then return expire_approval(id, record, over, json) end
  redis.call('ZADD', base .. 'approvals', record.xa, id)
  tell_of_approval('approval.freed', id, record, json, 'lease', lease_id)
end

-- Takes back the spending by a lease that nobody ever saw: bound again, to be given back when that lease is settled.
local function unspend_approval(id, lease_id)
  local key = base .. 'approval:' .. id
  local record = read(key)
  if not record or record.s ~= 's' or record.le ~= lease_id then return end
  redis.call('PERSIST', key)
  write(key, record, 's', 'b')
  local of_task = base .. 'task:' .. record.t .. ':approvals'
  redis.call('HSETNX', of_task, 'd:' .. record.dg, id)
  count_asking(id, record)
end

-- What is asked for a task that has ended is asked no more.
local function end_approvals(task_id, cause, json)
  local of_task = base .. 'task:' .. task_id .. ':approvals'
  local list = redis.call('HGETALL', of_task)
  for i = 1, #list, 2 do
    local record = string.sub(list[i], 1, 2) == 'd:' and read(base .. 'approval:' .. list[i + 1])
    -- A bound one is given back, and over, when its lease is settled.
    if record and (record.s == 'o' or record.s == 'g') then expire_approval(list[i + 1], record, cause, json) end
  end
  redis.call('DEL', of_task, base .. 'task:' .. task_id .. ':asking')
end
