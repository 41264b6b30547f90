-- report.lua: this host has done with what stands at or before an id. With Redis' time: the clocks of hosts may differ.
--
--   KEYS  evbus:{<stream>}:hosts, a hash: origin -> "<id> <ms since 1970>"
--   ARGV  origin, id

local time = redis.call('TIME')
local ms = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
return redis.pcall('HSET', KEYS[1], ARGV[1], ARGV[2] .. ' ' .. ms)
