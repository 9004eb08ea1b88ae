#!lua flags=allow-oom
-- What an operator says of an agent: a floor under its risk (0: none), and whether what was counted is forgotten. What it has asked for
-- before, and what it obtained, stays known. `expected` is the floor that this was decided on, as `<floor> <until>`.
-- key: agent-risk
-- args: reset:number floor until_at:number expected reason by memory:number half_life:number event
-- answer: 'ok', level before, level now | 'stale'
-- event: agent.risk
-- include: risk event
local record = read(KEYS[1]) or {}
local _, sum = points_of(record)
local before = level_of(risk_of(record, sum))
if expected ~= string.format('%d %d', floor_of(record), floor_of(record) > 0 and tonumber(record.fu or 0) or 0) then return { 'stale' } end

if reset == 1 then
  for _, signal in ipairs(SIGNALS) do erase(KEYS[1], record, 'p:' .. signal) end
  erase(KEYS[1], record, 'wn')
  erase(KEYS[1], record, 'ws')
  redis.call('DEL', KEYS[1] .. ':asked')
  sum = 0
end
if floor ~= '' then
  for _, field in ipairs({ 'fl', 'fr', 'fb', 'ft', 'fu' }) do erase(KEYS[1], record, field) end
  if tonumber(floor) > 0 then
    write(KEYS[1], record, 'fl', floor, 'fr', reason, 'fb', by, 'ft', now)
    if until_at > 0 then write(KEYS[1], record, 'fu', until_at) end
  end
end
local level = level_of(risk_of(record, sum))
-- Points are right as of `at`: without one they would be of now.
write(KEYS[1], record, 'at', record.at or now, 'si', record.si or now, 'lv', level)
if record.fl and not record.fu then
  redis.call('PERSIST', KEYS[1])
else
  redis.call('PEXPIRE', KEYS[1], math.max(memory, tonumber(record.fu or now) - now))
end
tell('agent.risk', event, 'from', before, 'to', level)
return { 'ok', before, level }
