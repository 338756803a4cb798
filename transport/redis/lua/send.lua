#!lua
-- Appends frames to mailboxes, each once however often it is sent. Refused by the server when memory is full.
-- Times in ms. A watermark is "accepted:last": numbers up to `accepted` are in, those after it up to `last` were refused for good.
-- KEYS  n, orph, the bells of the owners that the producer knows; then per address: a, w, m0 .. m4
-- ARGV  producer, how long to remember its numbers, bells, addresses; then per address: name, number of its bell (0: unknown),
--       groups; then per group: lane, first number, ttl (0: none), capacity (0: the mailbox's), count, and so many frames
-- Answer: per group: how many were there before, how many are accepted now, why the rest is refused (F: full, R: rejected, as it
--       is full, S: stopped, N: nobody was ever there), how many wait if it is full. Behind that, per bell to be rung by `ring`: number of the address, lane, owner
local now = math.floor(now_us() / 1000)
local producer, memory, bells, addresses = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])

local function mark_of(key, field) -- control mail has its own, as it is not refused with the others
  local text = redis.call('HGET', key, field)
  if not text then return { field = field, accepted = 0, last = 0, refused = false } end
  local accepted, last = string.match(text, '^(%d+):(%d+)$')
  return { field = field, accepted = tonumber(accepted or text), last = tonumber(last or text), refused = false }
end

local answer, unrung, p = {}, {}, 5
for i = 1, addresses do
  local k = 3 + bells + (i - 1) * 7
  local name, bell, groups = ARGV[p], tonumber(ARGV[p + 1]), tonumber(ARGV[p + 2])
  p = p + 3
  local a = redis.call('HMGET', KEYS[k], 'o', 's', 'c', 'h', 'v')
  local there, depth, new, rings = a[2] == '1', 0, false, nil
  local why = a[2] and 'S' or 'N'
  local marks, changed = {}, {}
  if there then
    why = a[5] == 'r' and 'R' or 'F'
    for lane = 1, 4 do depth = depth + redis.call('LLEN', KEYS[k + 2 + lane]) end
  end
  for _ = 1, groups do
    local lane, first, ttl = tonumber(ARGV[p]), tonumber(ARGV[p + 1]), tonumber(ARGV[p + 2])
    local capacity, count = tonumber(ARGV[p + 3]), tonumber(ARGV[p + 4])
    p = p + 5
    local which = lane == 0 and '!' or ''
    local mark = marks[which]
    if not mark then
      mark = mark_of(KEYS[k + 1], producer .. which)
      marks[which] = mark
    end
    local before = math.min(math.max(mark.accepted - first + 1, 0), count)
    local take = count - before
    if take > 0 and first + before <= mark.last then mark.refused = true end
    if not there or mark.refused then take = 0
    elseif lane > 0 then
      if capacity == 0 then capacity = a[5] == 'd' and 2 * a[3] or tonumber(a[3]) end -- the owner drops what is over it
      take = math.max(math.min(take, capacity - depth), 0)
    end
    if take > 0 then
      local prefix, frames = struct.pack('>d', ttl == 0 and 0 or now + ttl), {}
      for j = 1, take do frames[j] = prefix .. ARGV[p + before + j - 1] end
      redis.call('RPUSH', KEYS[k + 2 + lane], unpack(frames))
      mark.accepted, new = first + before + take - 1, true
      if (lane < 2 or a[4]) and (not rings or lane < rings) then rings = lane end
      if lane > 0 then depth = depth + take end
    end
    if before + take < count then mark.refused = true end -- and so is what follows it
    if first + count - 1 > mark.last then
      mark.last = first + count - 1
      changed[which] = mark
    end
    p = p + count
    answer[#answer + 1] = before
    answer[#answer + 1] = take
    answer[#answer + 1] = why
    answer[#answer + 1] = depth
  end
  for _, mark in pairs(changed) do
    local text = string.format('%.0f', mark.last)
    if mark.accepted < mark.last then text = string.format('%.0f:%s', mark.accepted, text) end
    redis.call('HSET', KEYS[k + 1], mark.field, text)
  end
  redis.call('PEXPIRE', KEYS[k + 1], memory) -- also of a copy: WAIT is for writes of its connection, which may be another
  if new then
    if not a[1] or not redis.call('ZSCORE', KEYS[1], a[1]) then redis.call('ZADD', KEYS[2], 'NX', now, name)
    elseif rings then
      local key = bell > 0 and KEYS[2 + bell]
      if key and string.sub(key, -#a[1] - 1) == ':' .. a[1] then
        redis.call('ZADD', key, 'LT', rings, name)
        if a[4] then redis.call('HDEL', KEYS[k], 'h') end
      else
        unrung[#unrung + 1] = i
        unrung[#unrung + 1] = rings
        unrung[#unrung + 1] = a[1]
      end
    end
  end
end
for _, each in ipairs(unrung) do answer[#answer + 1] = each end
return answer
