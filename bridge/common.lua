-- common.lua: stands before append, marks, resume and trim in the program: numbers and ids as texts, and flat replies by name.
--
-- Lua's numbers are doubles, so positions and the two numbers of an id stay texts, without leading zeros: the longer one is
-- greater. Checked by tests/broker/test_redis_append.c, test_redis_away.c.

local function less(a, b)
  return #a < #b or (#a == #b and a < b)
end

local function id_less(a, b)
  local a_ms, a_seq = string.match(a, '^(%d+)-(%d+)$')
  local b_ms, b_seq = string.match(b, '^(%d+)-(%d+)$')
  return less(a_ms, b_ms) or (a_ms == b_ms and less(a_seq, b_seq))
end

local function named(flat)
  local map = {}
  for i = 1, #flat, 2 do
    map[flat[i]] = flat[i + 1]
  end
  return map
end
