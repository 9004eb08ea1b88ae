#!lua flags=allow-oom
-- Ends a task and all below it: marked in this step, up to `budget` leases closed and claimed in it, the rest left due now.
-- A second, different end is answered with the first.
-- key: task
-- args: id state cause reason budget:integer event skew:number visibility:number retention:integer
-- answer: false | state, 1 if it is the first end, live leases there were, claims, where its last event is
-- event: task.ended for each task, lease.closing for each lease
-- include: tree lineage
local got = redis.call('HMGET', KEYS[1], 's', 'an', 'lc')
if not got[1] then return false end
if got[1] ~= 'active' then return { got[1], 0, tonumber(got[3] or 0), {} } end
local above, above_cause = ended_above(got[2])
if above then state, cause = above, above_cause end
local left, live, claims = end_tree(id, state, cause, reason, event, event, budget, budget)
redis.call('HSET', KEYS[1], 'lc', live)
if live > budget - left or redis.call('ZSCORE', base .. 'tasks:due', id) then redis.call('PUBLISH', 'mf:due', id) end
return { state, above and 0 or 1, live, claims, told_at }
