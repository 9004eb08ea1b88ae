#!lua flags=no-writes
-- One page of the roles that unsettled leases still need.
-- key: providers
-- args: cursor
-- answer: next cursor or 'done', role, ...
-- event: none
-- include: match
local ids, next_cursor = page_of(cursor, 500)
local seen, answer = {}, { next_cursor }
for _, lease in ipairs(ids) do
  local role = redis.call('HGET', base .. 'lease:' .. lease, 'ro')
  if role and not seen[role] then
    seen[role] = true
    answer[#answer + 1] = role
  end
end
return answer
