#!lua flags=no-writes
-- An approval, and why it can no longer be used where nobody has noticed yet.
-- key: approval
-- args:
-- answer: false | record, why it is over or false
-- event: none
-- include: approval
local record = read(KEYS[1])
if not record then return false end
return { flat(record), approval_over(record) or false }
