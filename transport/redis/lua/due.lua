#!lua flags=allow-oom
-- Brings delayed messages back to the end of their lanes, whether or not there is room; for a stopped actor they are dead letters.
-- KEYS  z, n, orph, dlq; then per message: a, t, m of its lane   ARGV  for each: the member, as `ripe` found it
-- Answer: how many; behind that, per bell to be rung by `ring`: lane, owner, address
local now = math.floor(now_us() / 1000)
local answer = { 0 }
for i, member in ipairs(ARGV) do
  local k = 2 + 3 * i
  local name, lane, tries, stored = string.match(member, '^(%S+) (%d) (%d+ %d+) %S+ (.*)$')
  if redis.call('ZREM', KEYS[1], member) == 1 then -- else somebody else has done it
    local a = redis.call('HMGET', KEYS[k], 'o', 's', 'b' .. lane)
    if a[2] == '1' then
      local length = redis.call('RPUSH', KEYS[k + 2], stored)
      local offset = string.format('%.0f', (tonumber(a[3]) or 0) + length - 1)
      redis.call('HSET', KEYS[k + 1], lane .. ':' .. offset, tries)
      if a[1] and redis.call('ZSCORE', KEYS[2], a[1]) then
        for _, each in ipairs({ lane, a[1], name }) do answer[#answer + 1] = each end
      else redis.call('ZADD', KEYS[3], 'NX', now, name) end
    else redis.call('XADD', KEYS[4], '*', 'a', name, 'l', lane, 'r', 'stopped', 'f', stored) end
    answer[1] = answer[1] + 1
  end
end
return answer
