-- include: clock record
-- How an agent behaves, at the agent's own partition: KEYS[1] is a hash. What an agent did adds points to signals; points halve every
-- `half_life`. `:asked` beside it counts equal requests, `:known` holds what it has asked for before. Needs `half_life`.
--   at           when its points were right          p:<signal>  points of a signal
--   si · dr      counted since · last drift          lv          level that was told last
--   ws · wn      when the window of its rate began · requests in it
--   o<slot>      what it obtained in ten minutes: `<their number> <reads> <writes> <escalations>`; six slots, used in turn
--   fl           a floor that an operator set; fr fb ft fu: why, by whom, when, until when (absent: until it is taken back)
local SIGNALS = { 'rate', 'loop', 'refused', 'novelty', 'drift' }
local SLOT_MS = 600000
local SLOTS = 6

-- The points of now, by signal, and their sum.
local function points_of(record)
  local factor = 2 ^ (-math.max(0, now - tonumber(record.at or now)) / half_life)
  local points, sum = {}, 0
  for _, signal in ipairs(SIGNALS) do
    local left = tonumber(record['p:' .. signal] or 0) * factor
    if left < 0.5 then left = 0 end
    points[signal] = left
    sum = sum + left
  end
  return points, sum
end

local function floor_of(record)
  if not record.fl or (record.fu and now >= tonumber(record.fu)) then return 0 end
  return tonumber(record.fl)
end

-- 0 to 100.
local function risk_of(record, sum)
  return math.min(100, math.max(floor_of(record), math.floor(sum + 0.5)))
end

-- In steps of ten: what policy reads, so that it does not read something new at each request.
local function level_of(risk)
  return math.floor(risk / 10) * 10
end

-- Reads, writes and escalations of the last hour: of the ten minutes that are under way and of the five before.
local function obtained_of(record)
  local slot = math.floor(now / SLOT_MS)
  local sums = { 0, 0, 0 }
  for i = 0, SLOTS - 1 do
    local number, reads, writes, escalations = string.match(record['o' .. i] or '', '^(%d+) (%d+) (%d+) (%d+)$')
    if number and tonumber(number) > slot - SLOTS then
      sums = { sums[1] + reads, sums[2] + writes, sums[3] + escalations }
    end
  end
  return sums
end
