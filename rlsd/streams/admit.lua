-- Admit new groups at the first stage while credits last; known groups change nothing.
--
-- KEYS[1]  in_flight: hash, group id -> stage
-- KEYS[2]  entries of the first stage: stream
-- KEYS[3]  bell of the first stage: list
-- ARGV[1]  limit: most groups in flight
-- ARGV[2]  the first stage's name
-- ARGV[3]  most rings a bell keeps
-- ARGV[4+] triples: group id, payload, trace
-- returns  the offered ids that are in flight now, in the order offered

local held = {}
for i = 4, #ARGV, 3 do
  local group_id = ARGV[i]
  local known = redis.call('HEXISTS', KEYS[1], group_id) == 1
  if not known and redis.call('HLEN', KEYS[1]) < tonumber(ARGV[1]) then
    redis.call('HSET', KEYS[1], group_id, ARGV[2])
    redis.call('XADD', KEYS[2], '*', 'group', group_id, 'payload', ARGV[i + 1], 'trace', ARGV[i + 2])
    redis.call('LPUSH', KEYS[3], '1')
    known = true
  end
  if known then held[#held + 1] = group_id end
end
redis.call('LTRIM', KEYS[3], 0, ARGV[3] - 1)
return held
