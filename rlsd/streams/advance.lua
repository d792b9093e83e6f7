-- Move a group to a later stage, once; with a dead-letter key, note also why it was given up.
-- The entry is removed in any case: either it is done, or the group has left this stage before.
--
-- KEYS[1]  in_flight: hash, group id -> stage
-- KEYS[2]  entries of the present stage: stream
-- KEYS[3]  entries of the next stage: stream
-- KEYS[4]  bell of the next stage: list
-- KEYS[5]  dead letters: stream (only to bury)
-- ARGV[1]  consumer group
-- ARGV[2]  entry id
-- ARGV[3]  group id
-- ARGV[4]  present stage
-- ARGV[5]  next stage
-- ARGV[6]  payload for the next stage
-- ARGV[7]  trace
-- ARGV[8]  most rings a bell keeps
-- ARGV[9]  deliveries so far (only to bury)
-- ARGV[10] reason (only to bury)
-- returns  1 when it took effect, else 0

local took_effect = redis.call('HGET', KEYS[1], ARGV[3]) == ARGV[4]
if took_effect then
  redis.call('HSET', KEYS[1], ARGV[3], ARGV[5])
  redis.call('XADD', KEYS[3], '*', 'group', ARGV[3], 'payload', ARGV[6], 'trace', ARGV[7])
  redis.call('LPUSH', KEYS[4], '1')
  redis.call('LTRIM', KEYS[4], 0, ARGV[8] - 1)
  if KEYS[5] then
    redis.call('XADD', KEYS[5], '*', 'group', ARGV[3], 'stage', ARGV[4], 'reason', ARGV[10],
      'deliveries', ARGV[9], 'trace', ARGV[7])
  end
end
redis.call('XACK', KEYS[2], ARGV[1], ARGV[2])
redis.call('XDEL', KEYS[2], ARGV[2])
return took_effect and 1 or 0
