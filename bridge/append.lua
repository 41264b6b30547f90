-- append.lua: a batch of one partition, appended exactly once.
--
--   KEYS  for each stream of the batch: the stream, its mark
--   ARGV  epoch, incarnation, origin, partition; then runs, in the order of positions. A run is of one stream, and of events
--         each of which has the one before it as its prev:
--           its head   which of the streams (1, 2 ...), how many events, prev of the first, eventType, version, how many
--                      further fields each has, their names
--           an event   eventId timestamp payload key position, values of the further fields
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
-- Positions are texts: Lua's numbers are doubles. An argument costs that Redis makes an object of it, and then a text of Lua's,
-- each byte of which is hashed: five arguments fewer were an eighth of all. So the ten names stand here and do not travel, and
-- what a run has in common travels once. Checked by tests/broker/test_redis_append.c.

local ARGV, call, unpack = ARGV, redis.pcall, unpack -- looked up once: an event needs them several times
local epoch, incarnation, origin, partition = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local HEAD, EVENT = 6, 5 -- arguments, without further fields
local streams, n_streams = {}, #KEYS / 2

local function ahead_of(entry)
  local now = redis.call('TIME')
  local ms = now[1] * 1000 + math.floor(now[2] / 1000)
  local had = entry and tonumber(string.match(entry, '^(%d+)-')) or 0
  if had > ms + 86400000 then -- somebody's own id, of no time that is near: there may be none behind it
    had = 0
  end
  return string.format('%.0f-0', math.max(ms, had) + 1)
end

for s = 1, n_streams do
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
  local id = '*'
  if kind.ok == 'none' then
    id = ahead_of(mark[4])
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
  streams[s] = {stream = stream, key = key, id = id, position = mark[1], last = mark[1],
    entries = tonumber(mark[5] or '0') or 0, runs = {}}
end

local at, n_arguments = 1 + 4, #ARGV
while at <= n_arguments do
  local of, n_more, prev = streams[tonumber(ARGV[at])], tonumber(ARGV[at + 5]), ARGV[at + 2]
  local step, first = EVENT + n_more, at + HEAD + n_more
  local behind = first + ARGV[at + 1] * step
  while first < behind and not less(of.last, ARGV[first + 4]) do -- it is there
    prev, first = ARGV[first + 4], first + step
  end
  if first < behind then
    if prev ~= of.last then
      return {err = 'EVBUS-GAP ' .. of.stream .. ' ' .. of.last}
    end
    of.last = ARGV[behind - step + 4]
    table.insert(of.runs, {at = at, n_more = n_more, step = step, first = first, behind = behind})
  end
  at = behind
end

local n = 0
for s = 1, n_streams do
  local of = streams[s]
  local stream, id, prev, had, entry, refused = of.stream, of.id, of.position, n, nil, nil
  if #of.runs > 0 then
    local set = call('HSET', of.key, 'position', prev, 'epoch', epoch, 'incarnation', incarnation)
    if type(set) == 'table' then
      return set
    end
  end
  for _, run in ipairs(of.runs) do
    local topic, version, n_more, more = ARGV[run.at + 3], ARGV[run.at + 4], run.n_more, {}
    for k = 1, n_more do
      more[2 * k - 1] = ARGV[run.at + HEAD - 1 + k]
    end
    for i = run.first, run.behind - 1, run.step do
      for k = 1, n_more do
        more[2 * k] = ARGV[i + EVENT - 1 + k]
      end
      local position = ARGV[i + 4]
      local given = call('XADD', stream, id,
        'eventId', ARGV[i], 'eventType', topic, 'timestamp', ARGV[i + 1], 'version', version,
        'payload', ARGV[i + 2], 'key', ARGV[i + 3], 'origin', origin, 'partition', partition,
        'position', position, 'prev', prev, unpack(more, 1, 2 * n_more))
      if given.err then -- else it is a text, and has none
        refused = given
        break
      end
      id, prev, entry, n = '*', position, given, n + 1
    end
    if refused then
      break
    end
  end
  if entry then
    call('HSET', of.key, 'position', prev, 'entry', entry, 'entries', of.entries + n - had)
  end
  if refused then
    return refused
  end
end
return n
