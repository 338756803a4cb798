#!lua flags=allow-oom
-- Gives a new incarnation of a node its lease. A name that is there is left as it is.
-- KEYS  n   ARGV  incarnation, lease in ms   Answer: 1, or LOST where its lease has ended
local now = math.floor(now_us() / 1000)
redis.call('ZADD', KEYS[1], 'NX', now + ARGV[2], ARGV[1])
return tonumber(redis.call('ZSCORE', KEYS[1], ARGV[1])) > now and 1 or 'LOST'
