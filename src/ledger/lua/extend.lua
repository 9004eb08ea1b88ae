#!lua flags=allow-oom
-- A live lease lasts as long as the record outside says that it was renewed to, never longer than it may. For an older ledger that has forgotten it.
-- key: lease
-- args: lease expires:integer skew:number
-- answer: 1 | 0 when there is nothing to extend
-- event: none; lease.renewed was told
-- include: over
local record = read(KEYS[1])
if not record or record.s ~= 'a' or tonumber(record.xa) >= expires then return 0 end
local until_when = math.min(expires, tonumber(record.ru))
if until_when <= tonumber(record.xa) then return 0 end
write(KEYS[1], record, 'xa', until_when)
outlive(KEYS[1], record, tonumber(record.uu or 0))
redis.call('ZADD', base .. 'due:' .. record.pr, due_at(record), lease)
return 1
