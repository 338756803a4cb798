#!lua flags=allow-oom
-- Rings a node's bell: hints that there is mail, each of which ends the hunger of its mailbox. A node that is gone has none.
-- KEYS  n, bell; then per hint: a   ARGV  incarnation; then per hint: lane, address
if redis.call('ZSCORE', KEYS[1], ARGV[1]) then
  for i = 1, #KEYS - 2 do
    redis.call('ZADD', KEYS[2], 'LT', ARGV[2 * i], ARGV[2 * i + 1])
    if redis.call('HGET', KEYS[2 + i], 'o') == ARGV[1] then redis.call('HDEL', KEYS[2 + i], 'h') end -- else another's
  end
end
return 1
