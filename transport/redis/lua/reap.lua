#!lua flags=allow-oom
-- Makes orphans of what a dead node owned; any node may. Its name goes out of `n` last, as only then others may claim. Times in ms.
-- KEYS  n, on, bell, orph   ARGV  incarnation, grace, the most addresses of one call
-- Answer: how many, or -1: its lease has not ended so long ago
local now = math.floor(now_us() / 1000)
local lease = redis.call('ZSCORE', KEYS[1], ARGV[1])
if not lease or tonumber(lease) + ARGV[2] >= now then return -1 end
local addresses = redis.call('SPOP', KEYS[2], ARGV[3])
for _, address in ipairs(addresses) do redis.call('ZADD', KEYS[4], 'NX', now, address) end
if redis.call('SCARD', KEYS[2]) == 0 then
  redis.call('ZREM', KEYS[1], ARGV[1])
  redis.call('DEL', KEYS[3])
end
return #addresses
