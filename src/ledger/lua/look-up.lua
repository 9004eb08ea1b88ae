#!lua flags=no-writes
-- What is known of each of these leases: 'u' there is no record, 's' it is settled, 'l' it lives, 'c' it is closing.
-- key: providers
-- args:
-- rest: leases
-- answer: a letter for each of them
-- event: none
-- include: clock
local KNOWN = { p = 'l', a = 'l', c = 'c', r = 's', e = 's' }
local answer = {}
for i = rest, #ARGV do
  local state = redis.call('HGET', base .. 'lease:' .. ARGV[i], 's')
  answer[#answer + 1] = state and KNOWN[state] or 'u'
end
return answer
