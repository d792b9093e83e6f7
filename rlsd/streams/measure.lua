-- How full the stages are, without their payloads.
--
-- KEYS     entries of each stage: streams
-- returns  the server's clock in milliseconds, and for each stage how many entries there are and
--          the id of the oldest, empty when there is none

local time = redis.call('TIME')
local rows = {time[1] * 1000 + math.floor(time[2] / 1000)}
for _, key in ipairs(KEYS) do
  local oldest = redis.call('XRANGE', key, '-', '+', 'COUNT', 1)[1]
  rows[#rows + 1] = redis.call('XLEN', key)
  rows[#rows + 1] = oldest and oldest[1] or ''
end
return rows
