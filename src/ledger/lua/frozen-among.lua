#!lua flags=no-writes
-- Whether a freeze covers requests for one task; each is what a freeze may cover of its lease.
-- key: task
-- args:
-- rest: freezables
-- answer: 1 or 0 for each of them
-- event: none
-- include: freeze
local answer = {}
local any = any_freeze()
local of_task = any and redis.call('HGET', KEYS[1], 'fz')
for i = rest, #ARGV do
  answer[#answer + 1] = any and frozen(tokens_in(ARGV[i], of_task or '')) and 1 or 0
end
return answer
