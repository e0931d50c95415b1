-- Every change of a job's state. Each happens as a whole or not at all. rowcast/jobs/queue.py calls
-- them, and prepends FINAL (the states of an ended job), QUEUE, DEFAULT_TTL_S, enqueue_webhook, and
-- fields.lua, clock.lua, turns.lua and quotas.lua. A job is RQ's hash rq:job:<id>. Where it stands follows from
-- its status:
--   queued     in rowcast:lane:<lane>:<owner>, by priority, then by the order of arrival;
--              the owner in rowcast:turns:<lane>
--   scheduled  in rowcast:later, by when it is due (steady seconds)
--   deferred   in rowcast:waiting:<id of the fit> that it waits for
--   started    in rowcast:running, by when its lease ends (steady seconds)
-- and, until it starts, in rowcast:queued and rowcast:queued:<owner>.

local AHEAD = {high = 0, normal = 1, low = 2}
-- Arrivals that fit between two priorities. 1e14 keeps sums within what a double holds exactly.
local PRIORITY_STEP = 1e14
local BELLS = 255
local OUTAGE_APART_S = 600
local MAX_ATTEMPT_ERRORS = 50

local function note_queued(id, owner)
  redis.call('ZADD', 'rowcast:queued', 0, id)
  if redis.call('ZADD', 'rowcast:queued:' .. owner, 0, id) == 1 then count_queued(id, 1) end
end

local function leave(id)
  local owner, lane = field(id, 'owner'), field(id, 'lane')
  redis.call('ZREM', 'rowcast:queued', id)
  if redis.call('ZREM', 'rowcast:queued:' .. owner, id) == 1 then count_queued(id, -1) end
  redis.call('ZREM', lane_key(lane, owner), id)
  redis.call('ZREM', 'rowcast:later', id)
  redis.call('ZREM', 'rowcast:running', id)
  redis.call('SREM', 'rowcast:orphaned', id)
  local fit = field(id, 'waits_for')
  if fit ~= '' then redis.call('SREM', 'rowcast:waiting:' .. fit, id) end
end

-- Put a job into its lane, at the place that it has had from the start.
local function stand(id)
  local owner, lane, score = field(id, 'owner'), field(id, 'lane'), field(id, 'queue_score')
  if score == '' then
    local step = AHEAD[field(id, 'priority')] or AHEAD.normal
    score = string.format('%.0f', step * PRIORITY_STEP + redis.call('INCR', 'rowcast:arrivals'))
    set_field(id, 'queue_score', score)
  end
  redis.call('HSET', job_key(id), 'status', 'queued')
  redis.call('ZADD', lane_key(lane, owner), score, id)
  note_queued(id, owner)
  if not redis.call('ZSCORE', 'rowcast:turns:' .. lane, owner) then
    redis.call('ZADD', 'rowcast:turns:' .. lane, redis.call('INCR', 'rowcast:clock'), owner)
  end
  redis.call('LPUSH', 'rowcast:bell:' .. lane, 1)
  redis.call('LTRIM', 'rowcast:bell:' .. lane, 0, BELLS)
end

local function postpone(id, delay_s)
  redis.call('HSET', job_key(id), 'status', 'scheduled')
  redis.call('ZADD', 'rowcast:later', text(steady() + delay_s), id)
  note_queued(id, field(id, 'owner'))
end

local function index(id, owner)
  redis.call('SADD', 'rowcast:owners', owner)
  redis.call('ZADD', 'rowcast:jobs:' .. owner, 0, id)
end

local function is_run_by(id, attempt)
  return field(id, 'status') == 'started' and field(id, 'attempt') == attempt
end

-- Take over a job that version 0.1 has queued: its owner and kind are in RQ's meta data.
local function adopt(id)
  local is_read, meta = pcall(cjson.decode, field(id, 'meta'))
  local is_table = is_read and type(meta) == 'table'
  local is_ours = is_table and type(meta.owner) == 'string' and type(meta.kind) == 'string'
  if redis.call('EXISTS', job_key(id)) == 0 then return end
  if not is_ours then
    redis.call('HSET', job_key(id), 'status', 'failed')
    redis.call('EXPIRE', job_key(id), DEFAULT_TTL_S)
    return
  end
  redis.call('HSET', job_key(id), 'owner', meta.owner, 'kind', meta.kind)
  redis.call('HSET', job_key(id), 'lane', 'long', 'priority', 'normal')
  redis.call('HSETNX', job_key(id), 'attempt', meta.attempts or 0)
  index(id, meta.owner)
  stand(id)
end

local function adopt_all()
  local id = redis.call('LPOP', 'rq:queue:' .. QUEUE)
  while id do
    adopt(id)
    id = redis.call('LPOP', 'rq:queue:' .. QUEUE)
  end
  -- Jobs that an older worker ran, or had just taken, when it died.
  local lost = redis.call('ZRANGEBYSCORE', 'rq:wip:' .. QUEUE, 0, now(), 'LIMIT', 0, 100)
  for _, entry in ipairs(lost) do
    redis.call('ZREM', 'rq:wip:' .. QUEUE, entry)
    local old = string.match(entry, '^[^:]+')
    if field(old, 'owner') == '' and field(old, 'status') == 'started' then adopt(old) end
  end
end

local function move_due()
  local due = redis.call('ZRANGEBYSCORE', 'rowcast:later', 0, text(steady()), 'LIMIT', 0, 100)
  for _, id in ipairs(due) do
    redis.call('ZREM', 'rowcast:later', id)
    if field(id, 'status') == 'scheduled' then stand(id) end
  end
end

local function release(id, status)
  for _, dependent in ipairs(redis.call('SMEMBERS', 'rowcast:waiting:' .. id)) do
    if field(dependent, 'status') == 'deferred' then
      if status == 'finished' then
        stand(dependent)
      else
        redis.call('SADD', 'rowcast:orphaned', dependent)
      end
    end
  end
  redis.call('DEL', 'rowcast:waiting:' .. id)
end

local function remember_for(id, ttl_s)
  for _, key in ipairs({job_key(id), 'rq:results:' .. id, 'rowcast:log:' .. id}) do
    redis.call('EXPIRE', key, ttl_s)
  end
end

local call = {}

function call.submit(id, owner, max_of_all, limits, ...)
  if redis.call('EXISTS', job_key(id)) == 1 then return 'exists' end
  limits = cjson.decode(limits)
  local n_of_owner, most = redis.call('ZCARD', 'rowcast:queued:' .. owner), limits.queued_jobs or 0
  if most > 0 and n_of_owner >= most then return 'over queued_jobs ' .. n_of_owner end
  if redis.call('ZCARD', 'rowcast:queued') >= tonumber(max_of_all) then return 'full' end
  redis.call('HSET', job_key(id), 'enqueued', text(now()), ...)
  local fit = field(id, 'waits_for')
  local fit_status = fit ~= '' and field(fit, 'status') or 'finished'
  if FINAL[fit_status] and fit_status ~= 'finished' or fit_status == '' then
    redis.call('DEL', job_key(id))
    return 'fit_ended'
  end
  local name, used = exceeded_quota(id, limits)
  if name then
    redis.call('DEL', job_key(id))
    return string.format('over %s %.0f', name, used)
  end
  count_new(id)
  index(id, owner)
  note_asking(owner)
  if fit_status == 'finished' then
    stand(id)
  else
    redis.call('HSET', job_key(id), 'status', 'deferred')
    redis.call('SADD', 'rowcast:waiting:' .. fit, id)
    note_queued(id, owner)
  end
  return 'ok'
end

function call.recount_queued(owner)
  recount_queued(owner)
  return 'ok'
end

function call.take(worker, ttl_s, ...)
  note_worker(worker)
  adopt_all()
  move_due()
  local id = pop_next({...})
  if not id then return '' end
  leave(id)
  redis.call('HINCRBY', job_key(id), 'attempt', 1)
  redis.call('HSET', job_key(id), 'status', 'started', 'worker', worker)
  local n_behind = redis.call('ZCARD', 'rowcast:queued:' .. field(id, 'owner'))
  redis.call('HSET', job_key(id), 'queued_behind', n_behind)
  -- Somebody may have set the time back since.
  local started = math.max(now(), tonumber(field(id, 'enqueued')) or 0)
  redis.call('HSET', job_key(id), 'started', text(started))
  redis.call('HDEL', job_key(id), 'progress')
  redis.call('ZADD', 'rowcast:running', text(steady() + ttl_s), id)
  return id
end

-- Note that an attempt is about to run. If its worker died before that, or never learned that the
-- job is its own, the job has not crashed.
function call.confirm_start(id, attempt, ttl_s)
  if not is_run_by(id, attempt) then return 0 end
  set_field(id, 'confirmed_attempt', attempt)
  redis.call('ZADD', 'rowcast:running', text(steady() + ttl_s), id)
  return 1
end

function call.renew_lease(id, attempt, ttl_s, progress, max_lines, ...)
  if redis.call('EXISTS', job_key(id)) == 0 then return 1 end
  -- The last log lines of an attempt come after it has requeued its job.
  local is_latest = field(id, 'attempt') == attempt and not FINAL[field(id, 'status')]
  if select('#', ...) > 0 and is_latest then
    redis.call('RPUSH', 'rowcast:log:' .. id, ...)
    redis.call('LTRIM', 'rowcast:log:' .. id, -max_lines, -1)
  end
  if not is_run_by(id, attempt) then return 0 end
  note_worker(field(id, 'worker'))
  redis.call('ZADD', 'rowcast:running', text(steady() + ttl_s), id)
  if progress ~= '' then redis.call('HSET', job_key(id), 'progress', progress) end
  return 1
end

-- End a job for good. An attempt may only end the job that it still runs; a caller without an
-- attempt may always. `ended` is the time that the record says. Return the outcome, and the record
-- that counts.
function call.finish(id, attempt, status, record, ended, ttl_s, is_recorded)
  local before = field(id, 'status')
  if before == '' then return {'gone', ''} end
  if FINAL[before] then return {'ended', field(id, 'record')} end
  if attempt ~= '' and not is_run_by(id, attempt) then return {'lost', ''} end
  leave(id)
  if status ~= 'finished' then count_failed(id) end
  redis.call('HSET', job_key(id), 'status', status, 'record', record)
  redis.call('HSET', job_key(id), 'ended', ended, 'keep_s', ttl_s)
  -- Nothing runs an ended job again, and its arguments may take 64 KB. RQ's fields of a job of version
  -- 0.1 cannot be read without them.
  if field(id, 'enqueued') ~= '' then redis.call('HDEL', job_key(id), 'data') end
  redis.call('XADD', 'rq:results:' .. id, 'MAXLEN', 1, '*', 'status', status)
  if is_recorded == '1' then
    remember_for(id, ttl_s)
  else
    redis.call('SADD', 'rowcast:unrecorded', id)
  end
  local url = field(id, 'callback_url')
  if url ~= '' then enqueue_webhook(id, field(id, 'owner'), url, text(now())) end
  release(id, status)
  return {'ok', record}
end

function call.recorded(id)
  redis.call('SREM', 'rowcast:unrecorded', id)
  remember_for(id, tonumber(field(id, 'keep_s')) or DEFAULT_TTL_S)
end

local function note_attempt_error(id, error_line)
  local attempt_error, errors = cjson.decode(error_line), field(id, 'attempt_errors')
  attempt_error.at = now()
  local line = cjson.encode(attempt_error)
  local _, n_ends = string.gsub(errors, '\n', '')
  if n_ends + 1 >= MAX_ATTEMPT_ERRORS then errors = string.match(errors, '\n(.*)') end
  set_field(id, 'attempt_errors', errors == '' and line or errors .. '\n' .. line)
end

local function queue_again(id, delay_s)
  redis.call('ZREM', 'rowcast:running', id)
  redis.call('HDEL', job_key(id), 'progress')
  if delay_s > 0 then postpone(id, delay_s) else stand(id) end
  return 'ok'
end

-- Queue a job again that an attempt could not end. A job that has waited too long for a part that
-- is away stays where it is, and the caller ends it.
function call.requeue(id, attempt, error_line, delay_s, max_wait_s)
  if not is_run_by(id, attempt) then return 'lost' end
  delay_s = tonumber(delay_s)
  -- A wait long after the last one belongs to another outage; only the beginning of each outage is
  -- noted.
  local is_new = steady() - (tonumber(field(id, 'waited_at')) or 0) > OUTAGE_APART_S
  if delay_s == 0 or is_new then note_attempt_error(id, error_line) end
  if delay_s > 0 then
    if is_new then redis.call('HSET', job_key(id), 'waits_since', text(steady())) end
    redis.call('HSET', job_key(id), 'waited_at', text(steady()))
    local waited_s = steady() - tonumber(field(id, 'waits_since'))
    if waited_s > tonumber(max_wait_s) then return 'exhausted' end
  end
  return queue_again(id, delay_s)
end

-- Queue a job again in the long lane, because it was expected to be short and is not.
function call.move_to_long_lane(id, attempt, error_line)
  if not is_run_by(id, attempt) then return 'lost' end
  note_attempt_error(id, error_line)
  redis.call('HSET', job_key(id), 'lane', 'long')
  return queue_again(id, 0)
end

-- Count the crash of an attempt, and queue its job again. After the last crash, return the number
-- of a final attempt, which runs nothing and only ends the job: the lost attempt may be stalled,
-- and must not end the job otherwise when it wakes up. If the caller dies before it has ended the
-- job, the next caller takes over.
function call.give_up(id, attempt, error_line, max_attempts, ttl_s)
  if not is_run_by(id, attempt) then return 'lost' end
  if field(id, 'closing_attempts') == '' then
    if field(id, 'confirmed_attempt') ~= attempt then return queue_again(id, 0) end
    note_attempt_error(id, error_line)
    if increment(id, 'crashes') < tonumber(max_attempts) then return queue_again(id, 0) end
  end
  increment(id, 'closing_attempts')
  redis.call('ZADD', 'rowcast:running', text(steady() + ttl_s), id)
  return tostring(redis.call('HINCRBY', job_key(id), 'attempt', 1))
end

function call.expired()
  local found, time = {}, text(steady())
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', 'rowcast:running', 0, time, 'LIMIT', 0, 100)) do
    if field(id, 'status') == 'started' then
      found[#found + 1] = id
    else
      redis.call('ZREM', 'rowcast:running', id)
    end
  end
  return found
end

local function has_place(id, lane, owner)
  local has_turn = redis.call('ZSCORE', 'rowcast:turns:' .. lane, owner)
  return has_turn and redis.call('ZSCORE', lane_key(lane, owner), id)
end

-- Put jobs where their status says that they stand; return how many stood elsewhere.
function call.reconcile(owner, ...)
  local moved = 0
  for _, id in ipairs({...}) do
    local status, fit = field(id, 'status'), field(id, 'waits_for')
    if status == '' then
      redis.call('ZREM', 'rowcast:jobs:' .. owner, id)
      redis.call('ZREM', 'rowcast:queued', id)
      redis.call('ZREM', 'rowcast:queued:' .. owner, id)
    elseif status == 'queued' and not has_place(id, field(id, 'lane'), owner) then
      stand(id)
      moved = moved + 1
    elseif status == 'scheduled' and not redis.call('ZSCORE', 'rowcast:later', id) then
      stand(id)
      moved = moved + 1
    elseif status == 'started' and not redis.call('ZSCORE', 'rowcast:running', id) then
      redis.call('ZADD', 'rowcast:running', text(steady()), id)
      moved = moved + 1
    elseif status == 'deferred' and redis.call('SISMEMBER', 'rowcast:waiting:' .. fit, id) == 0
        and redis.call('SISMEMBER', 'rowcast:orphaned', id) == 0 then
      local fit_status = field(fit, 'status')
      if fit_status == 'failed' or fit_status == 'canceled' then
        redis.call('SADD', 'rowcast:orphaned', id)
      elseif fit_status == '' or fit_status == 'finished' then
        stand(id)
      else
        redis.call('SADD', 'rowcast:waiting:' .. fit, id)
      end
      moved = moved + 1
    end
  end
  return moved
end

local name = table.remove(ARGV, 1)
return call[name](unpack(ARGV))
