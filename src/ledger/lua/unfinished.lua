#!lua flags=no-writes
-- The emergencies that are not finished, of the partition of the key and of those of `others`.
-- key: revocations
-- args:
-- rest: others
-- answer: id, ...
-- event: none
local ids = redis.call('ZRANGE', KEYS[1], 0, -1)
for i = rest, #ARGV do
  for _, id in ipairs(redis.call('ZRANGE', ARGV[i], 0, -1)) do ids[#ids + 1] = id end
end
return ids
