#!lua flags=no-writes
-- One page of who works on what in this partition: live and closing leases, and active tasks, counted by agent. What moves while the pages
-- are read may be counted twice or be missed.
-- key: providers
-- args: only cursor
-- answer: next cursor or 'done', agent, live leases, closing leases, active tasks, ...
-- event: none
-- include: match lineage
local counts = {}
local function count(agent, which)
  -- Nobody knows whose it was that was found upstream.
  if not agent or agent == '' or (only ~= '' and agent ~= only) then return end
  counts[agent] = counts[agent] or { 0, 0, 0 }
  counts[agent][which] = counts[agent][which] + 1
end

local next_cursor
local scan = string.match(cursor, '^tasks (%d+)$')
if scan then
  local got = redis.call('ZSCAN', base .. 'tasks', scan, 'COUNT', 500)
  for i = 1, #got[2], 2 do
    local task = redis.call('HMGET', base .. 'task:' .. got[2][i], 's', 'an', 'as')
    if task[1] == 'active' and not ended_above(task[2]) then
      local seen = {}
      for _, one in ipairs(cjson.decode(task[3])) do
        if not seen[one.agent] then count(one.agent, 3) end
        seen[one.agent] = true
      end
    end
  end
  next_cursor = got[1] == '0' and 'done' or 'tasks ' .. got[1]
else
  local ids
  ids, next_cursor = page_of(cursor, 500)
  for _, lease in ipairs(ids) do
    local record = redis.call('HMGET', base .. 'lease:' .. lease, 's', 'a')
    if record[1] == 'p' or record[1] == 'a' then count(record[2], 1) end
    if record[1] == 'c' then count(record[2], 2) end
  end
  if next_cursor == 'done' then next_cursor = 'tasks 0' end
end
local answer = { next_cursor }
for agent, sums in pairs(counts) do
  answer[#answer + 1] = agent
  for i = 1, 3 do answer[#answer + 1] = sums[i] end
end
return answer
