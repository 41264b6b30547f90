-- marks.lua: how far each stream has a partition of ours.
--
--   KEYS  for each stream: the stream, its mark
--   ARGV  origin, partition
--   gives position, epoch, incarnation of each, as texts; 0: none; and the id of the last entry that the stream has, of
--         whomever; empty: none
--
-- A mark that is gone while its stream is there (an eviction, a DEL) is found again from the stream itself: its last
-- entry of ours tells the position. Without that, all that is in the stream would be appended once more. As far back
-- as 10,000 entries: a stream in which we have nothing is looked through once, then its mark is there. What is found
-- is written, so that append.lua finds it, too; epoch 0 fences nobody.
--
-- A mark may speak of a stream that was removed, or evicted, and begun anew by another host: it counts for nothing, and
-- is sought in the stream likewise. The sign of it: the last entry of ours is not there, and cannot have gone from this
-- stream: nobody has deleted one so far behind (XDEL), and fewer have gone from it (XTRIM, XDEL) than the mark has seen of
-- ours alone. Else they were trimmed, the position stands, and as nothing of ours is there nothing of ours can be lost:
-- the entry is not asked for again, and what is counted is of entries that come from now on. 6.2 does not count what was added: there they are always held to be trimmed.
-- Checked by tests/broker/test_redis_append.c.

local origin, partition = ARGV[1], ARGV[2]

local function found_in(fields)
  local entry = {}
  for i = 1, #fields, 2 do
    entry[fields[i]] = fields[i + 1]
  end
  if entry.origin == origin and entry.partition == partition and string.match(entry.position or '', '^[1-9]%d*$') then
    return entry.position
  end
end

local function was_begun_anew(stream, entry, entries)
  local info = redis.pcall('XINFO', 'STREAM', stream)
  if info.err then
    return info
  end
  local of = named(info)
  return of['entries-added'] and id_less(of['max-deleted-entry-id'], entry) and
    of['entries-added'] - of['length'] < (tonumber(entries or '0') or 0)
end

local function look_back(stream)
  local from = '+'
  for _ = 1, 100 do
    local page = redis.pcall('XREVRANGE', stream, from, '-', 'COUNT', 100)
    if page.err then
      return page
    end
    for _, entry in ipairs(page) do
      local position = found_in(entry[2])
      if position then
        return position, entry[1]
      end
    end
    if #page < 100 then
      break
    end
    from = '(' .. page[100][1]
  end
  return '0'
end

local out = {}
for s = 1, #KEYS, 2 do
  local stream, key = KEYS[s], KEYS[s + 1]
  local kind = redis.pcall('TYPE', stream)
  if kind.err then
    return kind
  end
  if kind.ok ~= 'none' and kind.ok ~= 'stream' then
    return {err = 'WRONGTYPE ' .. stream .. ' is a ' .. kind.ok .. ' and no stream'}
  end
  local mark = redis.pcall('HMGET', key, 'position', 'epoch', 'incarnation', 'entry', 'entries')
  if mark.err then
    return {err = mark.err .. ': ' .. key}
  end
  if kind.ok == 'none' then
    mark[1] = '0'
  elseif mark[4] then
    local there = redis.pcall('XRANGE', stream, mark[4], mark[4])
    if there.err then
      return {err = there.err .. ': ' .. key}
    end
    if #there == 0 then
      local anew = was_begun_anew(stream, mark[4], mark[5])
      if type(anew) == 'table' then
        return anew
      end
      local gone = redis.pcall('HDEL', key, 'entry', 'entries')
      if type(gone) == 'table' then
        return gone
      end
      if anew then
        mark[1] = nil
      end
    end
  end
  if not mark[1] then
    local position, entry = look_back(stream)
    if type(position) == 'table' then
      return position
    end
    local set = redis.pcall('HSET', key, 'position', position, 'epoch', mark[2] or '0', 'incarnation', mark[3] or '0',
      unpack(entry and {'entry', entry, 'entries', '1'} or {}))
    if type(set) == 'table' then
      return set
    end
    mark[1] = position
  end
  for i = 1, 3 do
    table.insert(out, mark[i] or '0')
  end
  local last = redis.pcall('XREVRANGE', stream, '+', '-', 'COUNT', 1)
  if last.err then
    return last
  end
  table.insert(out, last[1] and last[1][1] or '')
end
return out
