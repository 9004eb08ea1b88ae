#!lua flags=allow-oom
-- Opens an emergency that goes with no freeze, or whose freeze is there already.
-- key: revocation
-- args: id selector reason by freeze verify event
-- answer: when it started
-- event: revocation.started
-- include: revocation
return open_revocation(id, selector, reason, by, freeze, verify, event)
