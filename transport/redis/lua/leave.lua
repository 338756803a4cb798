#!lua flags=allow-oom
-- Ends the lease of a node that owns nothing.
-- KEYS  n, on, bell   ARGV  incarnation   Answer: 1, or 0 where it still owns something
if redis.call('SCARD', KEYS[2]) > 0 then return 0 end
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('DEL', KEYS[3])
return 1
