#!lua flags=allow-oom
-- One page of an emergency in this partition: what the selector covers becomes `closing` and urgent. The cursor is kept here, in the same
-- step, so that any replica can go on. The first `room` of them are claimed for the caller, the others are due now. The first `sample` of each
-- provider are to be asked after their revoke; each has its row in `rows`, in the order in which they were found. Where leases are named, it is
-- these that are looked at, whatever the cursor.
-- key: progress
-- args: id selector size:integer room:integer sample:integer cause event skew:number visibility:number
-- rest: named
-- answer: 1 when every lease of this partition has been looked at, claims
-- event: lease.closing for each lease
-- include: match close over
local progress = read(KEYS[1]) or {}
if progress.cursor == 'done' then return { 1, {} } end
local wanted = cjson.decode(selector)
-- Of what a freeze goes with, what was issued after its thaw is no part: the walk may still be under way by then.
local freeze = string.gsub(id, '^revocation_', 'freeze_')
local thawed = tonumber(redis.call('HGET', base .. 'freezes', '@' .. freeze) or nil)
local claims, rows, matched, over = {}, {}, 0, tonumber(progress.over or 0)
local fields = fields_for(wanted)
local ids, cursor = {}, nil
if #ARGV >= rest then
  for i = rest, #ARGV do ids[#ids + 1] = ARGV[i] end
else
  ids, cursor = page_of(progress.cursor or '', size, wanted)
end
for _, lease in ipairs(ids) do
  local key = base .. 'lease:' .. lease
  local record = read_matching(key, wanted, fields, id)
  if record and (is_live(record) or record.s == 'c') and not (thawed and tonumber(record.ia) >= thawed) then
    matched = matched + 1
    over = math.max(over, usable_until(record))
    local nth = redis.call('HINCRBY', KEYS[1], 'matched:' .. record.pr, 1)
    rows[#rows + 1] = cjson.encode({ lease, record.t, record.a, record.ro, record.pr })
    local over_there = 'over:' .. record.pr
    redis.call('HSET', KEYS[1], over_there, math.max(usable_until(record), tonumber(redis.call('HGET', KEYS[1], over_there) or 0)))
    local due = redis.call('ZSCORE', due_key(record), lease) or now
    local live = is_live(record)
    redis.call('ZREM', base .. 'due:' .. record.pr, lease)
    write(key, record, 'em', record.em and record.em .. ' ' .. id or id)
    if nth <= sample then write(key, record, 'vf', '1') end
    if live then
      close_lease(lease, record, cause, event, true)
      if room > 0 then
        room = room - 1
        claims[#claims + 1] = take(lease, record)
      end
    else
      -- Closing already: urgent from now on. Who holds it keeps it; what waits for its upstream's expiry has nothing else to wait for.
      redis.call('ZADD', due_key(record), due, lease)
      if record.fe then
        redis.call('HINCRBY', KEYS[1], 'failed', 1)
        redis.call('HINCRBY', KEYS[1], 'failed:' .. record.pr, 1)
      end
    end
  end
end
redis.call('HINCRBY', KEYS[1], 'matched', matched)
if #rows > 0 then redis.call('RPUSH', base .. 'rows:' .. id, unpack(rows)) end
redis.call('HSET', KEYS[1], 'over', over)
if cursor then redis.call('HSET', KEYS[1], 'cursor', cursor) end
if matched > #claims then redis.call('PUBLISH', 'mf:due', id) end
return { cursor == 'done' and 1 or 0, claims }
