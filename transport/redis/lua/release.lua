#!lua flags=allow-oom
-- Hands mailboxes over to whoever claims them next. Times in ms.
-- KEYS  n, on, orph; then per address: a   ARGV  incarnation; then per address: name, epoch   Answer: LOST, or 1 (0: fenced) for each
local now = math.floor(now_us() / 1000)
local lease = redis.call('ZSCORE', KEYS[1], ARGV[1])
if not lease or tonumber(lease) <= now then return 'LOST' end
local answer = {}
for i = 1, #KEYS - 3 do
  local key, name = KEYS[3 + i], ARGV[2 * i]
  local a = redis.call('HMGET', key, 'o', 'e')
  answer[i] = 0
  if a[1] == ARGV[1] and a[2] == ARGV[2 * i + 1] then
    redis.call('HDEL', key, 'o', 'x')
    redis.call('SREM', KEYS[2], name)
    redis.call('ZADD', KEYS[3], 'NX', now, name)
    answer[i] = 1
  end
end
return answer
