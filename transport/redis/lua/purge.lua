#!lua flags=allow-oom
-- Throws away what waits in a mailbox, but control mail.
-- KEYS  a, t, m1 .. m4   Answer: how many
local count = 0
for lane = 1, 4 do
  local length = redis.call('LLEN', KEYS[2 + lane])
  if length > 0 then
    redis.call('HINCRBY', KEYS[1], 'b' .. lane, length)
    redis.call('UNLINK', KEYS[2 + lane])
    count = count + length
  end
end
for _, field in ipairs(redis.call('HKEYS', KEYS[2])) do
  if string.sub(field, 1, 1) ~= '0' then redis.call('HDEL', KEYS[2], field) end
end
return count
