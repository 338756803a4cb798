#!lua flags=allow-oom
-- Acks what is settled and fetches what is next, for mailboxes of one node. What is written with an ack is written by the turn that
-- trims the offset, so the same turn again writes nothing but that the owner is hungry, as it is when it got less than it wanted:
-- then the next mail rings. Hunger that is not so costs a needless bell, never mail. Times in ms.
-- KEYS  n, dlq, out, z; then per address: a, t, m0 .. m4
-- ARGV  incarnation, bytes of frames of each mailbox and of all after which no more is fetched, addresses; then per address: name, epoch, acked of each lane, next of each lane, want, notes;
--       then per note: kind, lane, offset, value. Dead letter: reason. Reply: frame. Wait: "ms attempts starts". Tried: "attempts starts"
-- Answer: LOST or { now, per address: FENCED or { 1 if there may be more, lane, offset of the first, frames, ... } }
local now = math.floor(now_us() / 1000)
local inc, each, all, addresses = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local lease = redis.call('ZSCORE', KEYS[1], inc)
if not lease or tonumber(lease) <= now then return 'LOST' end

local function tried(key, field, attempts, starts) -- grows only, so that an old turn changes nothing
  local text = redis.call('HGET', key, field)
  if text then
    local a, s = string.match(text, '^(%d+) (%d+)$')
    attempts, starts = math.max(attempts, a), math.max(starts, s)
  end
  redis.call('HSET', key, field, string.format('%d %d', attempts, starts))
end

local answer, p = { now }, 5
for i = 1, addresses do
  local k = 5 + (i - 1) * 7
  local a = redis.call('HMGET', KEYS[k], 'o', 'e', 'b0', 'b1', 'b2', 'b3', 'b4', 'h')
  local name, want, notes = ARGV[p], tonumber(ARGV[p + 12]), tonumber(ARGV[p + 13])
  local q = p + 14
  if a[1] ~= inc or a[2] ~= ARGV[p + 1] then answer[1 + i] = 'FENCED'
  else
    for _ = 1, notes do
      local kind, lane, offset, value = ARGV[q], tonumber(ARGV[q + 1]), tonumber(ARGV[q + 2]), ARGV[q + 3]
      q = q + 4
      local base, acked = tonumber(a[3 + lane]) or 0, tonumber(ARGV[p + 2 + lane])
      local stored = offset >= base and redis.call('LINDEX', KEYS[k + 2 + lane], offset - base)
      if not stored then -- it went with an earlier ack
      elseif kind == 'T' then
        local attempts, starts = string.match(value, '^(%d+) (%d+)$')
        tried(KEYS[k + 1], lane .. ':' .. ARGV[q - 2], attempts, starts)
      elseif offset >= acked then -- not settled for the server before it is acked
      elseif kind == 'D' then redis.call('XADD', KEYS[2], '*', 'a', name, 'l', lane, 'r', value, 'f', stored)
      elseif kind == 'R' then redis.call('XADD', KEYS[3], '*', 'f', value)
      elseif kind == 'W' then
        local delay, tries = string.match(value, '^(%d+) (%d+ %d+)$')
        local member = string.format('%s %d %s %s:%s ', name, lane, tries, a[2], ARGV[q - 2]) .. stored
        redis.call('ZADD', KEYS[4], now + delay, member)
      end
    end
    local wanted, room, trimmed = want, math.min(each, all), false
    local frames = { 0 }
    all = all - room
    for lane = 0, 4 do
      local key, base, acked = KEYS[k + 2 + lane], tonumber(a[3 + lane]) or 0, tonumber(ARGV[p + 2 + lane])
      if acked > base then
        redis.call('LTRIM', key, acked - base, -1)
        redis.call('HSET', KEYS[k], 'b' .. lane, ARGV[p + 2 + lane])
        base, trimmed = acked, true
        a[3 + lane] = acked
      end
      local first, taken = math.max(tonumber(ARGV[p + 7 + lane]), base), {}
      while want > 0 and room > 0 do
        local at, some = first - base + #taken, math.min(want, 32) -- 8 MiB at the most are read and not given
        local found = redis.call('LRANGE', key, at, at + some - 1)
        for _, stored in ipairs(found) do
          if room <= 0 then break end
          taken[#taken + 1] = stored
          want, room = want - 1, room - #stored
        end
        if #found < some then break end
      end
      if #taken > 0 then
        frames[#frames + 1] = lane
        frames[#frames + 1] = first
        frames[#frames + 1] = taken
      end
    end
    all = all + room
    if wanted > 0 and (want == 0 or room <= 0) then frames[1] = 1
    elseif wanted > 0 and not a[8] then redis.call('HSET', KEYS[k], 'h', 1) end
    if trimmed then
      for _, field in ipairs(redis.call('HKEYS', KEYS[k + 1])) do -- few: only what has failed and is not acked yet
        local lane, offset = string.match(field, '^(%d):(%d+)$')
        if tonumber(offset) < (tonumber(a[3 + lane]) or 0) then redis.call('HDEL', KEYS[k + 1], field) end
      end
    end
    answer[1 + i] = frames
  end
  p = p + 14 + 4 * notes
end
return answer
