-- The server's time in µs since 1970. Every script begins with this; the tests put a clock here that they can move.
local function now_us()
  local t = redis.call('TIME')
  return t[1] * 1000000 + t[2]
end
