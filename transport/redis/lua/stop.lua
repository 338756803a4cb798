#!lua flags=allow-oom
-- Takes no more mail for an address; once nothing is left there, nobody owns it. What it was is forgotten later: a new life goes on
-- with its offsets and a higher epoch. Times in ms.
-- KEYS  n, on, a, m0 .. m4   ARGV  incarnation, address, epoch, how long to remember   Answer: LOST, FENCED or the frames left
local now = math.floor(now_us() / 1000)
local lease = redis.call('ZSCORE', KEYS[1], ARGV[1])
if not lease or tonumber(lease) <= now then return 'LOST' end
local a = redis.call('HMGET', KEYS[3], 'o', 'e')
if a[1] ~= ARGV[1] or a[2] ~= ARGV[3] then return 'FENCED' end
redis.call('HSET', KEYS[3], 's', 0)
local left = 0
for lane = 0, 4 do left = left + redis.call('LLEN', KEYS[4 + lane]) end
if left == 0 then
  redis.call('HDEL', KEYS[3], 'o', 'x')
  redis.call('PEXPIRE', KEYS[3], ARGV[4])
  redis.call('SREM', KEYS[2], ARGV[2])
end
return left
