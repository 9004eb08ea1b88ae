-- include: clock record
-- When a lease is over, and when something is due of it. `xa` is its own end. `uu` is the end of its credential at an upstream that gave a
-- longer life than asked for, and is there only where it is later. Needs `skew`, but for the first two.

-- When the credential stops working by itself.
local function usable_until(record)
  return math.max(tonumber(record.xa), tonumber(record.uu or 0))
end

-- Notes how long the upstream lets the credential go on.
local function outlive(key, record, usable)
  if usable > tonumber(record.xa) then
    write(key, record, 'uu', usable)
  else
    erase(key, record, 'uu')
  end
end

-- Whether the upstream has ended all use by itself, whosever clock is asked.
local function is_over(record)
  return record.xe and now >= usable_until(record) + skew
end

-- When something is due of a pending or active lease. At its end it is taken back; where the upstream ends it then by itself, that is only
-- noted, once no clock says otherwise.
local function due_at(record)
  if record.s == 'p' then return tonumber(record.mu) end
  local due = tonumber(record.xa)
  if record.xe and not record.uu then due = due + skew end
  if record.rb then due = math.min(due, tonumber(record.rb)) end
  return due
end
