#!lua flags=allow-oom
-- One lease -> closing, claimed for its caller. What is closing already is claimed only if it is due: otherwise another broker holds it,
-- or it waits for its next attempt. With a `visibility` of 0 nothing is claimed, and what is closed is due at once for whoever sweeps.
-- key: lease
-- args: lease cause event skew:number visibility:number
-- answer: false | record, claim or false
-- event: lease.closing, the first time
-- include: close
local record = read(KEYS[1])
if not record then return false end
if is_live(record) then
  close_lease(lease, record, cause, event)
  if visibility <= 0 then
    redis.call('PUBLISH', 'mf:due', lease)
    return { flat(record), false }
  end
  local claim = take(lease, record)
  return { flat(record), claim }
end
if record.s == 'c' and visibility > 0 then
  local due = redis.call('ZSCORE', due_key(record), lease)
  if not due or tonumber(due) <= now then
    local claim = take(lease, record)
    return { flat(record), claim }
  end
end
return { flat(record), false }
