#!lua flags=no-writes
-- What is to be done in a partition, and what a node owns there. Times in ms.
-- KEYS  n, z, orph, on   ARGV  grace, the most orphans of one call
-- Answer: 1 if the lease of some node has ended longer ago than grace, 1 if a delayed message is due, orphans, owned
local now = math.floor(now_us() / 1000)
local first = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
local expired = first[2] and tonumber(first[2]) + ARGV[1] < now
local due = redis.call('ZCOUNT', KEYS[2], '-inf', now) > 0
local orphans = redis.call('ZRANGE', KEYS[3], 0, ARGV[2] - 1)
return { expired and 1 or 0, due and 1 or 0, orphans, redis.call('SMEMBERS', KEYS[4]) }
