-- publish.lua - publishes one value on a channel, with a number that no other publication has.
--
--   redis-cli --eval scripts/publish.lua '{tc:quote:AAPL}' , '{"price":"190.01"}' \
--       [history [ttl_s [trace [prefix]]]]
--
-- KEYS[1]  the channel's Redis name in braces: key of the hash, and so its Cluster slot
-- ARGV     payload (empty: the value is cleared), entries of history to keep (default 0: the last
--          value only), life of value and history in seconds (default 0: for ever), an id by which
--          nodes log where the publication went (1 to 64 bytes of printable ASCII without space;
--          default empty: none), the prefix of the fleet's names, which the id needs (default tc:)
-- Returns  {seq, epoch}; or an error, and then nothing has changed.
--
--   {tc:quote:AAPL}      hash    epoch, seq, ts in ms, data (absent once the value was cleared)
--   {tc:quote:AAPL}:log  stream  one entry <seq>-0 per publication: ts, data (empty: cleared)
--   tc:trace             channel <trace> quote:AAPL, right before the next; only with a trace
--   tc:quote:AAPL        channel @<epoch>:<seq>:<ts> <payload>
--
-- All entries of a log are of the hash's epoch and have no holes: the log is deleted whenever an
-- epoch begins, and when a publication does not go into it.

local HISTORY_MAX, TTL_S_MAX = 100000, 31622400
local SEQ_MAX = 9007199254740991 -- 2^53 - 1: what every JSON client can count to

local function fail(text)
    return redis.error_reply('ERR publish: ' .. text)
end

local function whole(number) -- in all its digits; Lua would print 1e+15
    return string.format('%.0f', number)
end

-- The number that an argument spells, 0 when it is not given, nil when it is none.
local function count(text, max)
    if text == nil then return 0 end
    local number = text:match('^%d+$') and tonumber(text)
    return number and number <= max and number or nil
end

if #KEYS ~= 1 or #ARGV < 1 or #ARGV > 5 then
    return fail('usage: {prefix:channel} , payload [history [ttl_s [trace [prefix]]]]')
end
local key, payload = KEYS[1], ARGV[1]
local log = key .. ':log'
local channel = key:match('^{([^{}]+)}$')
local history, ttl_s = count(ARGV[2], HISTORY_MAX), count(ARGV[3], TTL_S_MAX)
if not channel then return fail('the key must be the channel in braces, as {tc:quote:AAPL}') end
if not history then return fail('history must be a whole number from 0 to ' .. HISTORY_MAX) end
if not ttl_s then return fail('ttl_s must be a whole number from 0 to ' .. TTL_S_MAX) end
local trace, prefix = ARGV[4] or '', ARGV[5] or 'tc:'
if trace ~= '' then
    if #trace > 64 or not trace:match('^[!-~]+$') then
        return fail('trace must be 1 to 64 bytes of printable ASCII without space')
    end
    if channel:sub(1, #prefix) ~= prefix or #channel == #prefix then
        return fail('the key does not begin with the prefix ' .. prefix)
    end
end
for name, wanted in pairs({[key] = 'hash', [log] = 'stream'}) do
    local kind = redis.call('TYPE', name).ok
    if kind ~= 'none' and kind ~= wanted then
        return fail(name .. ' is a ' .. kind .. ' and not a ' .. wanted)
    end
end
-- Asked beforehand: a number that was taken and never published would be a hole. Since Redis 7.
if redis.acl_check_cmd and not redis.acl_check_cmd('PUBLISH', channel, '') then
    return redis.error_reply('NOPERM publish: this user may not publish on ' .. channel)
end

local time = redis.call('TIME')
local ts = time[1] .. string.format('%03d', math.floor(tonumber(time[2]) / 1000))

-- The numbering goes on only where its state is in the spelling that this script writes.
local state = redis.call('HMGET', key, 'epoch', 'seq')
local epoch, seq = state[1] or '', tonumber(state[2] or '')
local goes_on = #epoch <= 32 and epoch:match('^[%w_-]+$') and seq and seq >= 0 and seq < SEQ_MAX
    and whole(seq) == state[2]
if not goes_on then
    -- The time in microseconds; a clock that was set back must not bring an epoch back with it.
    local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
    local former = #epoch <= 13 and epoch:match('^%x+$') and tonumber(epoch, 16) or 0
    epoch = string.format('%x', math.max(now, former + 1))
    seq = 0
end
seq = seq + 1
local id = whole(seq)

-- The hash first: where Redis refuses to write (no memory, a replica), it refuses before anything
-- has changed.
redis.call('HSET', key, 'epoch', epoch, 'seq', id, 'ts', ts)
if payload == '' then
    redis.call('HDEL', key, 'data')
else
    redis.call('HSET', key, 'data', payload)
end

if history == 0 or not goes_on then redis.call('DEL', log) end
if history > 0 then
    local add = {'XADD', log, 'MAXLEN', '=', whole(history), id .. '-0', 'ts', ts, 'data', payload}
    local entry = redis.pcall(unpack(add))
    if type(entry) == 'table' then -- an error: what is there was numbered by somebody else
        redis.call('DEL', log)
        redis.call(unpack(add))
    end
end
for _, name in ipairs({key, log}) do
    if ttl_s > 0 then
        redis.call('PEXPIRE', name, whole(ttl_s * 1000))
    else
        redis.call('PERSIST', name)
    end
end

-- Whoever may not publish the trace may still publish.
if trace ~= '' then
    redis.pcall('PUBLISH', prefix .. 'trace', trace .. ' ' .. channel:sub(#prefix + 1))
end
redis.call('PUBLISH', channel, '@' .. epoch .. ':' .. id .. ':' .. ts .. ' ' .. payload)
return {seq, epoch}
