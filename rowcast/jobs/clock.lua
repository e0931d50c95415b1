-- The two clocks of the queue. rowcast/jobs/queue.py puts this before turns.lua.
--
-- What people read is Redis' own time, which all processes share: enqueued, started, ended.
-- Somebody may set it, in either direction. What decides (leases, delays, which workers live) goes
-- by a steady clock in rowcast:steady, which sees how much time passes between two calls. Workers
-- and maintenance processes call every second. If the time went on by more than SILENCE_S, or went
-- back, then Redis was away or hung, or somebody set the time: the steady clock stands still for
-- QUIET_S, so that living workers can renew their leases, and then goes on from where it was.

local STEADY = 'rowcast:steady'
-- A reading serves for so many seconds; Redis syncs each write.
local READING_S = 1
local SILENCE_S, QUIET_S = 3, 6

-- Redis' time in Unix seconds.
local function now()
  local time = redis.call('TIME')
  return tonumber(time[1]) + tonumber(time[2]) / 1e6
end

-- Redis would cut off a number's decimals.
local function text(number) return string.format('%.6f', number) end

local function keep_reading(time, steady_s)
  redis.call('HSET', STEADY, 'time', text(time), 'steady', text(steady_s))
  return steady_s
end

-- Steady seconds. They began at Redis' time, by which the leases of the last version go.
local function steady()
  local time = now()
  local reading = redis.call('HMGET', STEADY, 'time', 'steady')
  if not reading[1] then return keep_reading(time, time) end
  local passed_s, steady_s = time - tonumber(reading[1]), tonumber(reading[2])
  if passed_s > SILENCE_S or passed_s < -QUIET_S then
    -- Up to READING_S may have been read since.
    return keep_reading(time + QUIET_S, steady_s + READING_S)
  end
  if passed_s > READING_S then return keep_reading(time, steady_s + passed_s) end
  return steady_s + math.max(0, passed_s)
end
