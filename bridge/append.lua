-- append.lua: a batch of one partition, appended exactly once.
--
--   KEYS  for each stream of the batch: the stream, its mark
--   ARGV  epoch, incarnation, origin, partition; then for each event, in the order of positions: which of the streams
--         (1, 2 ...), how many further fields it has, eventId eventType timestamp version payload key position prev,
--         name and value of each further field
--   gives how many were appended; or EVBUS-FENCED <stream> <incarnation> <epoch>, EVBUS-GAP <stream> <mark>, or
--   Redis' own error
--
-- Order. All is looked at before anything is written: types, fences, joins. Then stream by stream: the mark's epoch,
-- since who may not write it must append nothing; the entries; last the mark's position. Only what nobody foresees can
-- fail there, as a stream whose ids have come to their end: the mark then says what the stream really has. So at any
-- return a mark says exactly what its stream holds, and whoever repeats the batch goes on there. Redis writes all of a
-- script to its file and its replicas as one. Where it is killed in that write it may find the first half of it again,
-- behind the second restart (7.0: a MULTI without its EXEC stays in the file): then entries are there twice, as the
-- position comes last; with the position first they would be missing.
--
-- A stream that is not there has nothing of ours, whatever its mark says: somebody has removed it, or Redis evicted it.
-- Where another host came first behind that, the stream is there, and not the one that our mark speaks of. So the mark
-- names the entry of ours that is the last one: is it not there, then it is for marks.lua to find out why: EVBUS-GAP.
-- Ids are given by the millisecond, and a stream may be evicted and begun anew within one: ids would be given twice, and
-- readers, and marks, would take the new entry for the old one. So a stream begins a millisecond ahead.
--
-- Positions are texts: Lua's numbers are doubles. The ten names stand here and do not travel: that is a quarter of the
-- cost. What most events do not have costs them nothing (further fields), nor is a text made a number where a table
-- knows it. Checked by tests/broker/test_redis_append.c.

local ARGV, call, unpack = ARGV, redis.pcall, unpack -- looked up once: an event needs them a dozen times
local epoch, incarnation, origin, partition = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local marks, last, todo, stream_of, entries, begins = {}, {}, {}, {}, {}, {}

local function ahead_of(entry)
  local now = redis.call('TIME')
  local ms = now[1] * 1000 + math.floor(now[2] / 1000)
  local had = entry and tonumber(string.match(entry, '^(%d+)-')) or 0
  if had > ms + 86400000 then -- somebody's own id, of no time that is near: there may be none behind it
    had = 0
  end
  return string.format('%.0f-0', math.max(ms, had) + 1)
end

for s = 1, #KEYS / 2 do
  local stream, key = KEYS[2 * s - 1], KEYS[2 * s]
  local kind = call('TYPE', stream)
  if kind.err then
    return kind
  end
  if kind.ok ~= 'none' and kind.ok ~= 'stream' then
    return {err = 'WRONGTYPE ' .. stream .. ' is a ' .. kind.ok .. ' and no stream'}
  end
  local mark = call('HMGET', key, 'position', 'epoch', 'incarnation', 'entry', 'entries')
  if mark.err then
    return {err = mark.err .. ': ' .. key}
  end
  for i = 1, 3 do
    mark[i] = mark[i] or '0'
    if not string.match(mark[i], '^%d+$') then
      return {err = 'WRONGTYPE ' .. key .. ' is damaged: "' .. mark[i] .. '" is no number'}
    end
  end
  if less(incarnation, mark[3]) or (incarnation == mark[3] and less(epoch, mark[2])) then
    return {err = 'EVBUS-FENCED ' .. stream .. ' ' .. mark[3] .. ' ' .. mark[2]}
  end
  if kind.ok == 'none' then
    begins[s] = ahead_of(mark[4])
    mark[1], mark[4], mark[5] = '0', false, false
  end
  if mark[4] then
    local there = call('XRANGE', stream, mark[4], mark[4])
    if there.err then
      return {err = there.err .. ': ' .. key}
    end
    if #there == 0 then
      return {err = 'EVBUS-GAP ' .. stream .. ' ' .. mark[1]}
    end
  end
  marks[s], last[s], todo[s], stream_of[tostring(s)] = mark[1], mark[1], {}, s
  entries[s] = tonumber(mark[5] or '0') or 0
end

local at, n_arguments = 5, #ARGV
while at <= n_arguments do
  local s, more = stream_of[ARGV[at]], ARGV[at + 1]
  local position, prev = ARGV[at + 8], ARGV[at + 9]
  if less(last[s], position) then
    if prev ~= last[s] then
      return {err = 'EVBUS-GAP ' .. KEYS[2 * s - 1] .. ' ' .. last[s]}
    end
    last[s] = position
    local list = todo[s]
    list[#list + 1] = at
  end
  at = at + 10 + (more == '0' and 0 or 2 * more)
end

local n = 0
for s = 1, #KEYS / 2 do
  local stream, key = KEYS[2 * s - 1], KEYS[2 * s]
  if #todo[s] > 0 then
    local set = call('HSET', key, 'position', marks[s], 'epoch', epoch, 'incarnation', incarnation)
    if type(set) == 'table' then
      return set
    end
  end
  local done, entry = marks[s], nil
  local function move_mark()
    if entry then
      call('HSET', key, 'position', done, 'entry', entry, 'entries', entries[s])
    end
  end
  for _, i in ipairs(todo[s]) do
    local more = ARGV[i + 1]
    local id = call('XADD', stream, not entry and begins[s] or '*',
      'eventId', ARGV[i + 2], 'eventType', ARGV[i + 3], 'timestamp', ARGV[i + 4], 'version', ARGV[i + 5],
      'payload', ARGV[i + 6], 'key', ARGV[i + 7], 'origin', origin, 'partition', partition,
      'position', ARGV[i + 8], 'prev', ARGV[i + 9],
      unpack(ARGV, i + 10, i + 9 + (more == '0' and 0 or 2 * more)))
    if type(id) == 'table' then
      move_mark()
      return id
    end
    done, entry, entries[s] = ARGV[i + 8], id, entries[s] + 1
    n = n + 1
  end
  move_mark()
end
return n
