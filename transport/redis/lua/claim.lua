#!lua flags=allow-oom
-- Gives a node a mailbox that nobody owns who may be alive, under an epoch that was never used there.
-- The owner may be alive as long as it is in `n`, however long ago its lease has ended: `reap` takes it out.
-- a: o owner, e epoch, s 1 running or 0 stopped, c capacity, v what it does when it is full (b blocks, r rejects, d drops),
-- g the owner's program, x 1 if the last owner died with it,
-- h 1 if the owner is to hear of the next mail, b0 .. b4 the base offset of each lane
-- KEYS  n, on, orph, a, t, m0 .. m4   ARGV  incarnation, address, capacity, v, g
-- Answer: LOST, "BUSY " and the owner's program, or { epoch, base of each lane, frames in each lane, 1 if the last owner died, field and value of each of t }
local us = now_us()
local inc, address = ARGV[1], ARGV[2]
local lease = redis.call('ZSCORE', KEYS[1], inc)
if not lease or tonumber(lease) <= math.floor(us / 1000) then return 'LOST' end
local a = redis.call('HMGET', KEYS[4], 'o', 'e', 'x', 'b0', 'b1', 'b2', 'b3', 'b4', 'g')
local suspect = a[3]
if a[1] and a[1] ~= inc then
  if redis.call('ZSCORE', KEYS[1], a[1]) then return 'BUSY ' .. (a[9] or '') end
  suspect = '1'
  redis.call('HSET', KEYS[4], 'x', 1) -- until it is released: a claim made twice is no amnesty
end
local epoch = string.format('%.0f', math.max((tonumber(a[2]) or 0) + 1, us))
redis.call('PERSIST', KEYS[4])
redis.call('HSET', KEYS[4], 'o', inc, 'e', epoch, 's', 1, 'c', ARGV[3], 'v', ARGV[4])
if ARGV[5] ~= '' then redis.call('HSET', KEYS[4], 'g', ARGV[5]) elseif a[9] then redis.call('HDEL', KEYS[4], 'g') end
redis.call('SADD', KEYS[2], address)
redis.call('ZREM', KEYS[3], address)
local answer = { epoch }
for lane = 0, 4 do answer[2 + lane] = tonumber(a[4 + lane]) or 0 end
for lane = 0, 4 do answer[7 + lane] = redis.call('LLEN', KEYS[6 + lane]) end
answer[12] = suspect and 1 or 0
answer[13] = redis.call('HGETALL', KEYS[5])
return answer
