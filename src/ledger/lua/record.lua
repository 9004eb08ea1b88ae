#!lua
-- Appends an event without a change of state.
-- key: events
-- args: type event outbox_limit:number
-- answer: 1 | 0 when the outbox is full
-- event: what it is given
-- include: event
if outbox_limit > 0 and outbox_full(outbox_limit) then return 0 end
tell(type, event)
return 1
