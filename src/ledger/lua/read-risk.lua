#!lua flags=no-writes
-- How an agent behaves, as it is by now.
-- key: agent-risk
-- args: half_life:number
-- answer: level, reads, writes and escalations of the last hour | with the record, for operators: false or { risk, record, points of each signal }
-- event: none
-- include: risk
local record = read(KEYS[1])
if not record then return { 0, 0, 0, 0, false } end
local points, sum = points_of(record)
local recent = obtained_of(record)
local told = {}
for i, signal in ipairs(SIGNALS) do told[i] = string.format('%.1f', points[signal]) end
local risk = risk_of(record, sum)
return { level_of(risk), recent[1], recent[2], recent[3], { risk, flat(record), told } }
