#!lua flags=no-writes
-- One page of what one agent can touch in this partition: active tasks that it works on, and those that it opened or that come from such a
-- one; and their unsettled leases. `token` is how a freeze names it.
-- key: providers
-- args: agent token cursor
-- answer: next cursor or 'done', 'task', id, record, facts of its root | 'lease', id, record, ...
-- event: none
-- include: match lineage
local function comes_from(tokens)
  return string.find(' ' .. (tokens or '') .. ' ', ' ' .. token .. ' ', 1, true)
end

local answer = { '' }
local scan = string.match(cursor, '^tasks (%d+)$')
if scan then
  local got = redis.call('ZSCAN', base .. 'tasks', scan, 'COUNT', 200)
  for i = 1, #got[2], 2 do
    local key = base .. 'task:' .. got[2][i]
    local task = redis.call('HMGET', key, 's', 'an', 'rt', 'fz', 'A:' .. agent)
    if task[1] == 'active' and (task[5] or comes_from(task[4])) and not ended_above(task[2]) then
      local root = redis.call('HMGET', base .. 'task:' .. task[3], 'ob', 'c:read', 'c:write', 'c:escalate')
      answer[#answer + 1] = { 'task', got[2][i], flat(read(key)), root }
    end
  end
  answer[1] = got[1] == '0' and 'done' or 'tasks ' .. got[1]
else
  local ids, next_cursor = page_of(cursor, 200)
  for _, lease in ipairs(ids) do
    local record = read(base .. 'lease:' .. lease)
    if record and record.s ~= 'r' and record.s ~= 'e' and (record.a == agent or comes_from(tokens_of(record.t))) then
      answer[#answer + 1] = { 'lease', lease, flat(record) }
    end
  end
  answer[1] = next_cursor == 'done' and 'tasks 0' or next_cursor
end
return answer
