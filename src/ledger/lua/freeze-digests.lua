#!lua flags=no-writes
-- What stands for all freezes and tombstones of each partition (lib/freeze.lua), of the key's and of those of `others`: where it is the same, they hold the same.
-- key: freezes
-- args:
-- rest: others
-- answer: digest, ...
-- event: none
local digests = { redis.call('HGET', KEYS[1], 'digest') or '' }
for i = rest, #ARGV do digests[#digests + 1] = redis.call('HGET', ARGV[i], 'digest') or '' end
return digests
