-- Claim entries of a stage without waiting: abandoned ones first, then new ones.
-- XPENDING IDLE + XCLAIM rather than XAUTOCLAIM: one pass over the whole pending list whatever
-- its length, delivery counts included, and the same reply on every server version.
-- An entry whose group is not at this stage any more is removed, not handed out.
-- With others asking, a consumer takes its share of the new ones: what the askers hold and what is
-- new, divided evenly. Busy consumers do not ask and have no share.
--
-- KEYS[1]  in_flight: hash, group id -> stage
-- KEYS[2]  entries of the stage: stream
-- KEYS[3]  consumers that ask for work at the stage: sorted set, milliseconds of the last time
-- ARGV[1]  the stage's name
-- ARGV[2]  consumer group, created here when missing (a new or wiped server)
-- ARGV[3]  consumer
-- ARGV[4]  milliseconds without a beat that make a claim abandoned
-- ARGV[5]  most entries to claim
-- ARGV[6]  milliseconds for which a consumer that has asked has a share; 0 leaves nobody any
-- returns  how many new entries are left to others, the server's clock in milliseconds, and rows of
--          entry id, group id, payload, trace, deliveries

local stage, group, consumer, count = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[5])
local rows = {}
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function remove(entry_id)
  redis.call('XACK', KEYS[2], group, entry_id)
  redis.call('XDEL', KEYS[2], entry_id)
end

local function hand_out(entry_id, fields, deliveries)
  if fields and redis.call('HGET', KEYS[1], fields[2]) == stage then
    rows[#rows + 1] = {entry_id, fields[2], fields[4], fields[6], deliveries}
    return true
  end
  remove(entry_id)
  return false
end

local abandoned = redis.pcall('XPENDING', KEYS[2], group, 'IDLE', ARGV[4], '-', '+', count)
if abandoned.err then
  if not string.find(abandoned.err, 'NOGROUP', 1, true) then return abandoned end
  redis.call('XGROUP', 'CREATE', KEYS[2], group, '0', 'MKSTREAM')
  abandoned = {}
end
for _, claim in ipairs(abandoned) do
  local entry_id, deliveries = claim[1], claim[4] + 1
  local entry = redis.call('XRANGE', KEYS[2], entry_id, entry_id)[1]
  if hand_out(entry_id, entry and entry[2], deliveries) then
    redis.call('XCLAIM', KEYS[2], group, consumer, 0, entry_id, 'RETRYCOUNT', deliveries, 'JUSTID')
  end
end

local function share_of_new(asks_ms)
  local told = redis.pcall('ZADD', KEYS[3], now, consumer)
  if type(told) == 'table' and told.err then
    return count, 0  -- out of memory: what is claimed is what frees some, so none is left over
  end
  redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', now - asks_ms)
  local askers = redis.call('ZCARD', KEYS[3])
  local pending = redis.call('XPENDING', KEYS[2], group)
  local new = redis.call('XLEN', KEYS[2]) - pending[1]
  if askers == 1 then return new, new end
  local mine, held = 0, 0
  for _, holder in ipairs(pending[4] or {}) do
    local num = tonumber(holder[2])
    if holder[1] == consumer then mine = num end
    if redis.call('ZSCORE', KEYS[3], holder[1]) then held = held + num end
  end
  return math.max(0, math.ceil((new + held) / askers) - mine), new
end

local most, new = count, 0
if tonumber(ARGV[6]) > 0 then
  local share
  share, new = share_of_new(tonumber(ARGV[6]))
  most = math.min(count, #rows + share)
end
local abandoned_rows = #rows
while #rows < most do
  local fresh = redis.call('XREADGROUP', 'GROUP', group, consumer, 'COUNT', most - #rows,
    'STREAMS', KEYS[2], '>')
  if not fresh then break end
  for _, entry in ipairs(fresh[1][2]) do hand_out(entry[1], entry[2], 1) end
end
return {math.max(0, new - (#rows - abandoned_rows)), now, rows}
