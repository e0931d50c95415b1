-- Whose job is next. rowcast/jobs/queue.py puts this before queue.lua.
--
-- In each lane the owners take turns. While another owner's jobs wait in the lanes of a worker, it
-- passes over owners that run at least half of all jobs that the living workers can run. Nobody is
-- interrupted. So that owners need not wait for the end of another one's long jobs, the last free
-- worker is kept for those that have none now and have submitted one in the last KEPT_S. Without
-- other owners, one takes all workers.

local WORKERS, ASKED = 'rowcast:workers', 'rowcast:asked'
local KEPT_S = 30
-- A worker lives for so many steady seconds after its last call.
local WORKER_TTL_S = 10

local function turns_key(lane) return 'rowcast:turns:' .. lane end

-- Note that a worker lives. Every other call writes nothing, because Redis syncs each write.
local function note_worker(worker)
  local ends_at = tonumber(redis.call('ZSCORE', WORKERS, worker) or 0)
  if ends_at - steady() > WORKER_TTL_S / 2 then return end
  redis.call('ZREMRANGEBYSCORE', WORKERS, '-inf', text(steady()))
  redis.call('ZADD', WORKERS, text(steady() + WORKER_TTL_S), worker)
end

-- Note that an owner has submitted a job.
local function note_asking(owner)
  redis.call('ZREMRANGEBYSCORE', ASKED, '-inf', text(steady() - KEPT_S))
  redis.call('ZADD', ASKED, text(steady()), owner)
end

local function count_workers() return redis.call('ZCOUNT', WORKERS, text(steady()), '+inf') end

-- Return how many jobs each owner runs, and their sum.
local function count_running()
  local n_running, sum = {}, 0
  for _, id in ipairs(redis.call('ZRANGE', 'rowcast:running', 0, -1)) do
    local owner = field(id, 'owner')
    n_running[owner] = (n_running[owner] or 0) + 1
    sum = sum + 1
  end
  return n_running, sum
end

-- Return the owners that run at least half of what the workers can, and their number.
local function owners_at_half(n_running, n_workers)
  local share = math.max(1, math.floor(n_workers / 2))
  local at_half, n_owners = {}, 0
  for owner, n_jobs in pairs(n_running) do
    if n_jobs >= share then
      at_half[owner] = true
      n_owners = n_owners + 1
    end
  end
  return at_half, n_owners
end

-- Return whether an owner that has submitted a job lately has none now, running or queued.
local function is_any_absent(n_running)
  local asked = redis.call('ZRANGEBYSCORE', ASKED, text(steady() - KEPT_S), '+inf')
  for _, owner in ipairs(asked) do
    local n_queued = redis.call('ZCARD', 'rowcast:queued:' .. owner)
    if not n_running[owner] and n_queued == 0 then return true end
  end
  return false
end

-- Return the owner whose turn it is in a lane, but none of `others`, which are `n_others`.
local function next_owner(lane, others, n_others)
  for _, owner in ipairs(redis.call('ZRANGE', turns_key(lane), 0, n_others)) do
    if not others[owner] then return owner end
  end
end

-- Remove an owner's first job from a lane, and return it; the owner goes to the end of the turns.
local function pop_job(lane, owner)
  local id
  repeat
    id = redis.call('ZPOPMIN', lane_key(lane, owner))[1]
  until not id or field(id, 'status') == 'queued'
  if id and redis.call('EXISTS', lane_key(lane, owner)) == 1 then
    redis.call('ZADD', turns_key(lane), redis.call('INCR', 'rowcast:clock'), owner)
  else
    redis.call('ZREM', turns_key(lane), owner)
  end
  return id
end

local function pop_first_of(lanes, others, n_others)
  for _, lane in ipairs(lanes) do
    local owner = next_owner(lane, others, n_others)
    while owner do
      local id = pop_job(lane, owner)
      if id then return id end
      owner = next_owner(lane, others, n_others)
    end
  end
end

-- Remove the next job from the lanes of a worker, and return it.
local function pop_next(lanes)
  local is_any_queued = false
  for _, lane in ipairs(lanes) do
    is_any_queued = is_any_queued or redis.call('EXISTS', turns_key(lane)) == 1
  end
  if not is_any_queued then return end
  local n_workers, n_running, n_all = count_workers(), count_running()
  local id = pop_first_of(lanes, owners_at_half(n_running, n_workers))
  if id then return id end
  local is_last = n_all >= n_workers - 1
  if is_last and is_any_absent(n_running) then return end
  return pop_first_of(lanes, {}, 0)
end
