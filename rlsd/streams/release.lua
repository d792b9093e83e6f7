-- Give claims back that the consumer still owns, and wake a consumer that waits.
-- The claim passes to nobody, so that a beat already on its way cannot revive it.
--
-- KEYS[1]  entries of the stage: stream
-- KEYS[2]  bell of the stage: list
-- ARGV[1]  consumer group
-- ARGV[2]  consumer
-- ARGV[3]  the owner that stands for nobody
-- ARGV[4]  idle milliseconds to begin with: the more, the sooner it counts as abandoned
-- ARGV[5]  deliveries to take off the count: 1 as if never delivered, 0 for a failed attempt
-- ARGV[6]  most rings a bell keeps
-- ARGV[7+] entry ids
-- returns  how many were given back

local given_back = 0
for i = 7, #ARGV do
  local claim = redis.pcall('XPENDING', KEYS[1], ARGV[1], ARGV[i], ARGV[i], 1)
  if claim.err and not string.find(claim.err, 'NOGROUP', 1, true) then return claim end
  if claim[1] and claim[1][2] == ARGV[2] then
    redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[3], 0, ARGV[i],
      'IDLE', ARGV[4], 'RETRYCOUNT', claim[1][4] - ARGV[5], 'JUSTID')
    redis.call('LPUSH', KEYS[2], '1')
    given_back = given_back + 1
  end
end
redis.call('LTRIM', KEYS[2], 0, ARGV[6] - 1)
return given_back
