-- Forget groups whose outcome is in the batch log; their credits return.
-- The stage is not compared: after a wipe a logged group may have been admitted again, and it is
-- finished all the same. Its new entry is removed when somebody tries to claim it.
--
-- KEYS[1]  in_flight: hash, group id -> stage
-- KEYS[2]  entries of the train stage: stream
-- ARGV[1]  consumer group
-- ARGV[2+] pairs: entry id, group id
-- returns  how many credits returned

local returned = 0
for i = 2, #ARGV, 2 do
  returned = returned + redis.call('HDEL', KEYS[1], ARGV[i + 1])
  redis.call('XACK', KEYS[2], ARGV[1], ARGV[i])
  redis.call('XDEL', KEYS[2], ARGV[i])
end
return returned
