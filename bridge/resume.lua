-- resume.lua: behind which id does reading go on, if the stream is still the one that we have read?
--
--   KEYS  the stream
--   ARGV  of the entries that were read last, the newest first, at least one: the id; the last 16 bytes of its first
--         field's value (mostly the eventId), "": nobody knows
--   gives the newest of them that still stands there: a failover to a replica that lacks the last entries leaves an
--   older one. None of them stands there:
--         the newest, if the stream has come that far and nothing older is left in it (they were trimmed), or
--         somebody has deleted one so late (XDEL); else 0-0: it is another stream, or has another history than the one
--         that we have read, and all of it is new
--
-- To ask whether the entry itself is there, not only whether the stream has come as far, matters: behind a failover
-- new entries may have lower ids than those that are lost, and soon higher ones: other hosts may be there before us, and
-- in the same milliseconds, so the same id may be of another entry. 6.2 does not tell of deleted ones. Checked by tests/broker/test_redis_away.c.

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
for i = 1, #ARGV, 2 do
  local entries = redis.pcall('XRANGE', stream, ARGV[i], ARGV[i])
  if entries.err then
    return entries
  end
  if #entries > 0 and (ARGV[i + 1] == '' or string.sub(entries[1][2][2], -16) == ARGV[i + 1]) then
    return ARGV[i]
  end
end
local info = redis.pcall('XINFO', 'STREAM', stream)
if info.err then
  return info
end
local of = named(info)
local first, deleted = of['first-entry'], of['max-deleted-entry-id']
if id_less(of['last-generated-id'], ARGV[1]) then
  return '0-0'
end
if first and id_less(first[1], ARGV[1]) and (not deleted or id_less(deleted, ARGV[1])) then
  return '0-0'
end
return ARGV[1]
