-- What owners use of their quotas: counted as jobs are submitted, begin and end, within the scripts of
-- rowcast/jobs/queue.lua, after fields.lua. The hash rowcast:usage:<owner> has the counts. Datasets with
-- an id before its field `counted_before` are counted; of the others those in rowcast:seen:<owner>.

local MADE_BY = {fit = 'models', predict = 'results'}
local CHECKED = {'datasets', 'models', 'results', 'stored_bytes', 'queued_bytes', 'queued_option_bytes'}

local function usage_key(owner) return 'rowcast:usage:' .. owner end

local function usage(owner, name)
  return tonumber(redis.call('HGET', usage_key(owner), name)) or 0
end

local function add_usage(owner, name, amount)
  if amount ~= 0 then
    redis.call('HINCRBY', usage_key(owner), name, string.format('%.0f', amount))
  end
end

local function is_seen(owner, dataset_id)
  local counted_before = redis.call('HGET', usage_key(owner), 'counted_before') or ''
  return dataset_id < counted_before or redis.call('ZSCORE', 'rowcast:seen:' .. owner, dataset_id)
end

-- Return what a new job adds to each count. RQ's field `data` holds its options.
local function needs_of(id)
  local size, dataset_id = tonumber(field(id, 'dataset_bytes')) or 0, field(id, 'dataset_id')
  local needs = {queued_bytes = size, queued_option_bytes = redis.call('HSTRLEN', job_key(id), 'data')}
  needs[MADE_BY[field(id, 'kind')]] = 1
  if dataset_id ~= '' and not is_seen(field(id, 'owner'), dataset_id) then
    needs.datasets, needs.stored_bytes = 1, size
  end
  return needs
end

-- Return the first quota that a new job would exceed, with its usage; nil where there is none.
local function exceeded_quota(id, limits)
  local owner, needs = field(id, 'owner'), needs_of(id)
  for _, name in ipairs(CHECKED) do
    local limit, used = limits[name] or 0, usage(owner, name)
    if limit > 0 and (needs[name] or 0) > 0 and used + needs[name] > limit then return name, used end
  end
end

-- Count what a new job uses but its place in the queue. Its dataset stays from now on.
local function count_new(id)
  local owner, dataset_id, needs = field(id, 'owner'), field(id, 'dataset_id'), needs_of(id)
  for _, name in ipairs({'datasets', 'models', 'results', 'stored_bytes'}) do
    add_usage(owner, name, needs[name] or 0)
  end
  if needs.datasets then redis.call('ZADD', 'rowcast:seen:' .. owner, 0, dataset_id) end
  -- Maintenance marks it as used, so that it is never taken for a forgotten upload.
  if dataset_id ~= '' then redis.call('SADD', 'rowcast:used', owner .. '/' .. dataset_id) end
end

-- A job that made nothing gives its place back. Jobs of older versions were not counted.
local function count_failed(id)
  if field(id, 'dataset_bytes') ~= '' then
    add_usage(field(id, 'owner'), MADE_BY[field(id, 'kind')], -1)
  end
end

-- `sign` is 1 for a job that enters the queue, -1 for one that leaves it.
local function count_queued(id, sign)
  local owner = field(id, 'owner')
  add_usage(owner, 'queued_bytes', sign * (tonumber(field(id, 'dataset_bytes')) or 0))
  add_usage(owner, 'queued_option_bytes', sign * redis.call('HSTRLEN', job_key(id), 'data'))
end

local function recount_queued(owner)
  redis.call('HDEL', usage_key(owner), 'queued_bytes', 'queued_option_bytes')
  for _, id in ipairs(redis.call('ZRANGE', 'rowcast:queued:' .. owner, 0, -1)) do
    count_queued(id, 1)
  end
end

