-- The webhooks that are to be sent. rowcast/webhooks/outbox.py calls these functions and defines
-- KEPT_S; the script that ends jobs begins with them, so that a job's end and its webhook are
-- written together.
--   rowcast:webhooks                         sorted set: the names of webhooks by when they are
--                                            due, in Unix seconds
--   rowcast:webhook:<name>                   hash: owner, url, since, tries
--   rowcast:webhooks:resting:<owner>:<host>  exists while a slow receiver of an owner rests

local DUE = 'rowcast:webhooks'
-- Bounds the time that one claim holds up Redis to a few milliseconds.
local MOST_CHECKED = 1000

local function webhook_key(name) return 'rowcast:webhook:' .. name end

-- One owner's slow receiver does not delay another owner's webhooks to it.
local function resting_key(owner, url)
  return 'rowcast:webhooks:resting:' .. owner .. ':' .. (string.match(url, '^%a+://[^/?#]*') or '')
end

-- The webhook is due immediately; `now` is when its job ended, in Unix seconds.
local function enqueue_webhook(name, owner, url, now)
  redis.call('HSET', webhook_key(name), 'owner', owner, 'url', url, 'since', now)
  redis.call('EXPIRE', webhook_key(name), KEPT_S)
  redis.call('ZADD', DUE, now, name)
end

-- Return the webhook that is due first as {name, owner, url, since, tries}, and make it due again
-- at `lease_end`. A try is counted before it is made, so that a webhook that kills its sender is
-- not tried for ever.
local function claim_webhook(now, lease_end)
  for _ = 1, MOST_CHECKED do
    local name = redis.call('ZRANGEBYSCORE', DUE, '-inf', now, 'LIMIT', 0, 1)[1]
    if not name then return false end
    local found = redis.call('HMGET', webhook_key(name), 'owner', 'url', 'since')
    local owner, url, since = unpack(found)
    local rest_ms = owner and redis.call('PTTL', resting_key(owner, url))
    if not owner then
      redis.call('ZREM', DUE, name)
    elseif rest_ms > 0 then
      redis.call('ZADD', DUE, now + rest_ms / 1000, name)
    else
      redis.call('ZADD', DUE, lease_end, name)
      local tries = redis.call('HINCRBY', webhook_key(name), 'tries', 1)
      return {name, owner, url, since, tries}
    end
  end
  return false
end

-- Change when a webhook is due, unless its lease ran out and another sender has claimed it.
local function postpone_webhook(name, lease_end, due)
  local current = redis.call('ZSCORE', DUE, name)
  if current and tonumber(current) == tonumber(lease_end) then
    redis.call('ZADD', DUE, due, name)
  end
end

local function remove_webhook(name)
  redis.call('ZREM', DUE, name)
  redis.call('DEL', webhook_key(name))
end

-- Send nothing to an owner's receiver for a while.
local function rest_receiver(owner, url, rest_ms)
  redis.call('SET', resting_key(owner, url), 1, 'PX', rest_ms)
end
