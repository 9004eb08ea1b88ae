#!lua flags=no-writes
-- The task that an external id stands for already, before anybody is asked what to make of it.
-- key: task
-- args: external digest
-- answer: false | 'known', id, record, facts of the root | 'conflict', detail
-- event: none
-- include: external
local known, record, conflict = task_known_as(external, digest)
if conflict then return conflict end
return known and task_answer('known', known, record) or false
