#!lua flags=no-writes
-- One page of a provider's active leases in this partition whose mint had come to its end before a time.
-- key: providers
-- args: provider minted_before:number cursor
-- answer: next cursor or 'done', lease, ...
-- event: none
-- include: clock
local got = redis.call('ZSCAN', base .. 'due:' .. provider, cursor, 'COUNT', 500)
local answer = { got[1] == '0' and 'done' or got[1] }
for i = 1, #got[2], 2 do
  local record = redis.call('HMGET', base .. 'lease:' .. got[2][i], 's', 'mu')
  if record[1] == 'a' and tonumber(record[2]) < minted_before then answer[#answer + 1] = got[2][i] end
end
return answer
