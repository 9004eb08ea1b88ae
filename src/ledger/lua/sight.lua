#!lua flags=allow-oom
-- Leases that an upstream listed, in a listing that began at `listed_from`, and that no unsettled record tells of. Each is an orphan where that
-- was `apart` or more after the ledger was first known to hold nothing of it that lives: no listing is told so late, and no mint is under
-- way so long. Of a settled lease that is since then; of one without a record the first sight is noted.
-- An orphan is told once, and while the outbox has room: a server that is full of them must not stop issuing. Sights are forgotten after
-- `keep_ms`; what is there still is told anew. No more than `most` are kept, the newest: an upstream may say what it likes.
-- key: sighted
-- args: provider listed_from:number apart:number outbox_limit:number keep_ms:integer most:integer event
-- rest: leases
-- answer: for each of them 'k' it is known, 's' seen, and not yet for long enough, 'f' an orphan that was told just now, 'o' an orphan
-- event: orphan.found, of each
-- include: event
local room = outbox_limit / 2 - redis.call('XLEN', base .. 'events')
local answer = {}
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - keep_ms)

local function sight(lease)
  local record = redis.call('HMGET', base .. 'lease:' .. lease, 's', 'st')
  local since = tonumber(record[2] or redis.call('ZSCORE', KEYS[1], lease) or now)
  if record[1] and record[1] ~= 'r' and record[1] ~= 'e' then
    redis.call('ZREM', KEYS[1], lease, '!' .. lease)
    return 'k'
  end
  if not record[1] then redis.call('ZADD', KEYS[1], 'NX', now, lease) end
  -- What was settled a moment ago was on its way out while it was listed.
  if listed_from < since + apart then return record[1] and 'k' or 's' end
  if room <= 0 or redis.call('ZADD', KEYS[1], 'NX', now, '!' .. lease) == 0 then return 'o' end
  room = room - 1
  tell('orphan.found', event, 'sub', lease, 'lease', lease, 'provider', provider)
  return 'f'
end

for i = rest, #ARGV do answer[#answer + 1] = sight(ARGV[i]) end
redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -most - 1)
redis.call('PEXPIRE', KEYS[1], keep_ms)
return answer
