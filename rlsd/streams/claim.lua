-- Claim entries of a stage without waiting: abandoned ones first, then new ones.
-- XPENDING IDLE + XCLAIM rather than XAUTOCLAIM: one pass over the whole pending list whatever
-- its length, delivery counts included, and the same reply on every server version.
-- An entry whose group is not at this stage any more is removed, not handed out.
--
-- KEYS[1]  in_flight: hash, group id -> stage
-- KEYS[2]  entries of the stage: stream
-- ARGV[1]  the stage's name
-- ARGV[2]  consumer group, created here when missing (a new or wiped server)
-- ARGV[3]  consumer
-- ARGV[4]  milliseconds without a beat that make a claim abandoned
-- ARGV[5]  most entries to claim
-- returns  rows of entry id, group id, payload, trace, deliveries

local stage, group, consumer, count = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[5])
local rows = {}

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
while #rows < count do
  local fresh = redis.call('XREADGROUP', 'GROUP', group, consumer, 'COUNT', count - #rows,
    'STREAMS', KEYS[2], '>')
  if not fresh then break end
  for _, entry in ipairs(fresh[1][2]) do hand_out(entry[1], entry[2], 1) end
end
return rows
