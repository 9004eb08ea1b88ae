#!lua flags=no-writes
-- What is below a task and not over, level by level: as many as `most`.
-- key: task
-- args: id most:integer
-- answer: tasks as id, record; 1 when there are more
-- event: none
-- include: clock record
local answer, level, more = {}, { id }, 0
while #level > 0 and more == 0 do
  local below = {}
  for _, parent in ipairs(level) do
    if more == 1 then break end
    local children = redis.call('SMEMBERS', base .. 'task:' .. parent .. ':children')
    table.sort(children)
    for _, child in ipairs(children) do
      local record = read(base .. 'task:' .. child)
      if #answer >= most then
        more = 1
        break
      end
      if record then
        answer[#answer + 1] = { child, flat(record) }
        below[#below + 1] = child
      end
    end
  end
  level = below
end
return { answer, more }
