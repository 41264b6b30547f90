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
-- is written, so that append.lua finds it, too; epoch 0 fences nobody. Checked by tests/broker/test_redis_append.c.

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
        return position
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
  local mark = redis.pcall('HMGET', key, 'position', 'epoch', 'incarnation')
  if mark.err then
    return {err = mark.err .. ': ' .. key}
  end
  if kind.ok == 'none' then
    mark[1] = '0'
  elseif not mark[1] then
    local position = look_back(stream)
    if type(position) == 'table' then
      return position
    end
    local set = redis.pcall('HSET', key, 'position', position, 'epoch', mark[2] or '0', 'incarnation', mark[3] or '0')
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
