-- include: clock
-- Where this partition stands: the id of its last event (a stream keeps it when it is trimmed), the mark (lib/freeze.lua), and the freezes by which
-- it is in quarantine; each '' where there is none. What is less than somebody has seen before is an older Redis, or an emptied one.
local function standing()
  local last = ''
  local stream = redis.pcall('XINFO', 'STREAM', base .. 'events')
  for i = 1, #stream, 2 do
    if stream[i] == 'last-generated-id' then last = stream[i + 1] end
  end
  local got = redis.call('HMGET', base .. 'freezes', 'mark', 'quarantine')
  return { last, got[1] or '', got[2] or '' }
end
