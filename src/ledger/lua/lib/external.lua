-- include: clock record
-- The task that an external id, which is one digest of who named it, stands for: its id and record, or nil; or an answer where that one has
-- another body.
local function task_known_as(external, digest)
  local known = external ~= '' and redis.call('GET', base .. 'ext:' .. external)
  local record = known and read(base .. 'task:' .. known)
  if not record then return nil end
  if record.dg ~= digest then return nil, nil, { 'conflict', 'the external id is taken by a task with another body' } end
  return known, record
end

-- A task as whoever opened it is answered.
local function task_answer(word, known, record)
  local root = redis.call('HMGET', base .. 'task:' .. record.rt, 'ob', 'c:read', 'c:write', 'c:escalate')
  return { word, known, flat(record), root }
end
