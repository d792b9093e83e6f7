-- Keep claims alive that the consumer still owns; never take one back from another.
-- JUSTID resets the idle time without counting a delivery.
--
-- KEYS[1]  entries of the stage: stream
-- ARGV[1]  consumer group
-- ARGV[2]  consumer
-- ARGV[3+] entry ids
-- returns  the entry ids that are not the consumer's any more

local lost = {}
for i = 3, #ARGV do
  -- A wiped server answers NOGROUP: everything is lost, which is an answer and not an error.
  local claim = redis.pcall('XPENDING', KEYS[1], ARGV[1], ARGV[i], ARGV[i], 1)
  if claim.err and not string.find(claim.err, 'NOGROUP', 1, true) then return claim end
  if claim[1] and claim[1][2] == ARGV[2] then
    redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, ARGV[i], 'JUSTID')
  else
    lost[#lost + 1] = ARGV[i]
  end
end
return lost
