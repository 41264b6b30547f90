-- resume.lua: behind which id does reading go on, if the stream is still the one that we have read?
--
--   KEYS  the stream
--   ARGV  the ids that were read last, the newest first; at least one
--   gives the newest of them that still stands there: a failover to a replica that lacks the last entries leaves an
--   older one. None of them stands there:
--         the newest, if the stream has come that far (they were trimmed); else 0-0: it is another stream, all of it
--         is new
--
-- To ask whether the entry itself is there, not only whether the stream has come as far, matters: behind a failover
-- new entries may have lower ids than those that are lost, and soon higher ones. Checked by
-- tests/broker/test_redis_away.c.

local function less(a, b)
  return #a < #b or (#a == #b and a < b)
end

local stream = KEYS[1]
local kind = redis.pcall('TYPE', stream)
if kind.err then
  return kind
end
if kind.ok == 'none' then
  return '0-0'
end
if kind.ok ~= 'stream' then
  return {err = 'WRONGTYPE ' .. stream .. ' is a ' .. kind.ok .. ' and no stream'}
end
for _, id in ipairs(ARGV) do
  local entries = redis.pcall('XRANGE', stream, id, id)
  if entries.err then
    return entries
  end
  if #entries > 0 then
    return id
  end
end
local info = redis.pcall('XINFO', 'STREAM', stream)
if info.err then
  return info
end
for i = 1, #info, 2 do
  if info[i] == 'last-generated-id' then
    local last_ms, last_seq = string.match(info[i + 1], '^(%d+)-(%d+)$')
    local our_ms, our_seq = string.match(ARGV[1], '^(%d+)-(%d+)$')
    if less(last_ms, our_ms) or (last_ms == our_ms and less(last_seq, our_seq)) then
      return '0-0'
    end
  end
end
return ARGV[1]
