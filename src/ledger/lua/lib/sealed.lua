-- include: clock record
-- How many unsettled leases of this partition have a handle that is encrypted, by the key that it takes to open it. No broker may start
-- without a key that some lease needs.

local function count_sealed(with, more)
  if redis.call('HINCRBY', base .. 'sealed', with, more) <= 0 then redis.call('HDEL', base .. 'sealed', with) end
end

-- From now on the handle of this unsettled lease is encrypted with the key `with`, or with none: ''.
local function seal_lease(key, record, with)
  if (record.sk or '') == with then return end
  if record.sk then count_sealed(record.sk, -1) end
  if with == '' then return erase(key, record, 'sk') end
  count_sealed(with, 1)
  write(key, record, 'sk', with)
end
