#!lua
-- Puts a dead letter at the end of its lane, without its ttl, whether or not there is room. Times in ms.
-- KEYS  dlq, n, orph, a, m of its lane   ARGV  id, address, frame   Answer: 0 (it or its mailbox is gone), 1, or the owner to be rung
local now = math.floor(now_us() / 1000)
local a = redis.call('HMGET', KEYS[4], 'o', 's')
if a[2] ~= '1' or redis.call('XDEL', KEYS[1], ARGV[1]) == 0 then return 0 end
redis.call('RPUSH', KEYS[5], struct.pack('>d', 0) .. ARGV[3])
if a[1] and redis.call('ZSCORE', KEYS[2], a[1]) then return a[1] end
redis.call('ZADD', KEYS[3], 'NX', now, ARGV[2])
return 1
