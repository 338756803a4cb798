#!lua flags=no-writes
-- The delayed messages whose time has come.
-- KEYS  z   ARGV  the most of them   Answer: members
return redis.call('ZRANGE', KEYS[1], '-inf', math.floor(now_us() / 1000), 'BYSCORE', 'LIMIT', 0, ARGV[1])
