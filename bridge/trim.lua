-- trim.lua: what nobody needs any more goes.
--
--   KEYS  the stream, evbus:{<stream>}:hosts
--   ARGV  the age in ms below which nothing goes, the time in ms after which a silent host is not waited for
--   gives how many went, the lowest id that is kept, for whom, the hosts that were dropped
--
-- Kept is what is younger than the age, what stands behind the id that a host has reported (report.lua), and of each
-- consumer group of Redis' own what stands behind its last-delivered-id and what is pending in it: the lowest of
-- these ids is kept, and all behind it. By MINID, never by MAXLEN, which knows nothing of who has read what. A host
-- that is silent for too long is forgotten, and told; it comes back by its next report. A group is never forgotten:
-- nobody but its owner knows. Checked by tests/broker/test_redis_append.c.

local stream, hosts = KEYS[1], KEYS[2]

-- The lowest id behind it. A number that a double may not hold stays as it is: one entry too many is kept
local function behind(id)
  local ms, seq = string.match(id, '^(%d+)-(%d+)$')
  return #seq < 15 and ms .. '-' .. string.format('%.0f', seq + 1) or id
end

local kind = redis.pcall('TYPE', stream)
if kind.err then
  return kind
end
if kind.ok == 'none' then
  return {0, '0-0', 'age', ''}
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local floor, why = string.format('%.0f', math.max(now - ARGV[1], 0)) .. '-0', 'age'
local function keep(id, for_whom)
  if id_less(id, floor) then
    floor, why = id, for_whom
  end
end

local reports = redis.pcall('HGETALL', hosts)
if reports.err then
  return {err = reports.err .. ': ' .. hosts}
end
local dropped = {}
for origin, report in pairs(named(reports)) do
  local id, ms = string.match(report, '^(%d+%-%d+) (%d+)$')
  if id == nil then
    return {err = 'WRONGTYPE ' .. hosts .. ' is damaged: "' .. report .. '" is no report; HDEL it'}
  end
  if now - ms > tonumber(ARGV[2]) then
    table.insert(dropped, origin)
  else
    keep(behind(id), 'host ' .. origin)
  end
end

local groups = redis.pcall('XINFO', 'GROUPS', stream)
if groups.err then
  return groups
end
for _, flat in ipairs(groups) do
  local group = named(flat)
  keep(behind(group['last-delivered-id']), 'group ' .. group.name)
  if group.pending > 0 then
    local pending = redis.pcall('XPENDING', stream, group.name)
    if pending.err then
      return pending
    end
    keep(pending[2], 'group ' .. group.name)
  end
end

local n = redis.pcall('XTRIM', stream, 'MINID', floor)
if type(n) == 'table' then
  return n
end
for _, origin in ipairs(dropped) do
  redis.pcall('HDEL', hosts, origin)
end
return {n, floor, why, table.concat(dropped, ' ')}
