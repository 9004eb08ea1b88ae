-- The partition's prefix, and milliseconds on the server's clock: the only clock that any transition uses.
local base = string.sub(KEYS[1], 1, 9)
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
