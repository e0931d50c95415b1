-- The hash of a job, and the key of its lane. rowcast/jobs/queue.py puts this before clock.lua, and
-- RENAMED (fields of the last version) before it.

local function job_key(id) return 'rq:job:' .. id end
-- Workers of the last version may run beside ours. They read and write the old names of fields, so
-- the old name is written as well, and read first.
local function field(id, name)
  local value = RENAMED[name] and redis.call('HGET', job_key(id), RENAMED[name])
  return value or redis.call('HGET', job_key(id), name) or ''
end

local function set_field(id, name, value)
  redis.call('HSET', job_key(id), name, value)
  if RENAMED[name] then redis.call('HSET', job_key(id), RENAMED[name], value) end
end

-- Add one to a field, and return the sum.
local function increment(id, name)
  local sum = (tonumber(field(id, name)) or 0) + 1
  set_field(id, name, sum)
  return sum
end

local function lane_key(lane, owner) return 'rowcast:lane:' .. lane .. ':' .. owner end
