#!lua flags=allow-oom
-- Renews a lease that has not ended. One that has is never revived: its mailboxes may be somebody else's.
-- KEYS  n   ARGV  incarnation, lease in ms   Answer: 1 or LOST
local now = math.floor(now_us() / 1000)
local lease = redis.call('ZSCORE', KEYS[1], ARGV[1])
if not lease or tonumber(lease) <= now then return 'LOST' end
redis.call('ZADD', KEYS[1], 'GT', now + ARGV[2], ARGV[1])
return 1
