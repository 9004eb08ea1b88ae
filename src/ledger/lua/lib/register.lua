-- include: clock
-- The lists of one provider. KEYS[1] is a hash: `v:<list>` version, `t:<list>` the last lock's token, `u:<list>` until when it is held.
-- Beside it `:lists` names the lists, and `:<hash>` holds the entries of one. Needs `hash`.
local entries = KEYS[1] .. ':' .. hash

-- Versions only grow, also past a ledger that was lost, because they follow the clock: some upstreams take a list only with a higher
-- number than the last.
local function changed(list)
  local before = tonumber(redis.call('HGET', KEYS[1], 'v:' .. list) or 0)
  redis.call('HSET', KEYS[1], 'v:' .. list, math.max(before + 1, now))
end
