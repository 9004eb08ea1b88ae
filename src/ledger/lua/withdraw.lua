#!lua flags=allow-oom
-- Undoes a reserve or grant whose answer its caller never saw and whose mint never began: there is nothing upstream. For the quota that
-- spans partitions, which is asked for in another one at the same time.
-- key: lease
-- args: lease event retention:integer
-- answer: 1 | 0 when it is no longer live
-- event: lease.revoked; approval.freed
-- include: settle
local record = read(KEYS[1])
if not record or (record.s ~= 'p' and record.s ~= 'a') then return 0 end
write(KEYS[1], record, 'ca', 'mint_failed', 'cl', now, 'wd', '1')
if record.ap then unspend_approval(record.ap, lease) end
settle_lease(lease, record, 'r')
tell('lease.revoked', event, 'sub', lease, 'cause', 'mint_failed', 'code', 'quota_exceeded')
return 1
