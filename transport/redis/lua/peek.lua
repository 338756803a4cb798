#!lua flags=no-writes
-- Looks at the frames of a lane. Times in ms.
-- KEYS  a, m of the lane   ARGV  lane, how many to skip, the most to show   Answer: now, offset of the first, frames
local base = tonumber(redis.call('HGET', KEYS[1], 'b' .. ARGV[1])) or 0
return { math.floor(now_us() / 1000), base + ARGV[2], redis.call('LRANGE', KEYS[2], ARGV[2], ARGV[2] + ARGV[3] - 1) }
