"""The Lua scripts for locks: one for each action, so that each action is atomic.

A namespace consists of a few keys with one hash tag, so that a Redis Cluster keeps them on one node, and each script is
given all keys that it uses:

    {prefix}:sessions     sorted set: session → when its lease runs out, in ms by the clock of Redis
    {prefix}:info         hash: session → what it states about itself, as JSON
    {prefix}:locks        hash: key → "session token since"
    {prefix}:fence        the last fencing token
    {prefix}:held:ID      set: the keys that session ID may hold
    {prefix}:wake:0 … 63  channels: "outcome\nkey" for every lock that becomes free

A lock is held while the lease of its session runs, so renewing a session renews all its locks. All these keys expire a
day after the last heartbeat, so killed processes leave nothing for ever. All times are those of Redis, and are never
compared with another clock. A fencing token is the time in microseconds, or one more than the last token. A counter
ahead of the clock would repeat tokens after a restart without data; it stays behind, because fewer than a million locks
are taken per second.

Other programs may write to these keys. A lock whose value these scripts do not write is free, a session without a name
or with an impossible lease is not alive, and impossible tokens are ignored.
"""

from __future__ import annotations

import hashlib

from penstock.redis.client import Script

CHANNELS = 64
EXACT = 2**53
"""Numbers below this are exact in Lua."""
KEEP_MS = 24 * 3600 * 1000
"""Keys expire this long after their last renewal, in milliseconds."""


def channel_of(key: bytes) -> int:
    """Return the number of the channel for releases of a key. The scripts compute the same number."""
    return hashlib.sha1(key, usedforsecurity=False).digest()[0] % CHANNELS


_COMMON = f"""
local function micros()
  local t = redis.call('TIME')
  return t[1] * 1000000 + t[2]
end
local function now() return math.floor(micros() / 1000) end
local function exact(text)
  local number = tonumber(text or '')
  return number and number > 0 and number < {EXACT} and number or 0
end
local function named(session) return #session <= 64 and string.find(session, '^[%w_-]+$') end
local function left(sessions, session, t)
  local ends = exact(redis.call('ZSCORE', sessions, session))
  return ends > 0 and ends - t or 0
end
local function parts(value)
  local session, token, since = string.match(value or '', '^(%S+) (%d+) (%d+)$')
  if session and named(session) and #token < 20 and #since < 20 then return session, token, since end
end
local function tell(channels, key, outcome)
  local number = tonumber(string.sub(redis.sha1hex(key), 1, 2), 16) % {CHANNELS}
  redis.call('PUBLISH', channels .. number, outcome .. '\\n' .. key)
end
local function whole(number) return string.format('%.0f', number) end
"""

# KEYS sessions info locks fence held; ARGV session, lease in ms, ms to keep, info (empty: not the first beat).
# → {0} if the session is not alive, else {1, and a few sessions that are dead and not buried}
BEAT = Script(
    _COMMON
    + """
local t = now()
if ARGV[4] ~= '' then
  redis.call('HSET', KEYS[2], ARGV[1], ARGV[4])
elseif left(KEYS[1], ARGV[1], t) <= 0 then
  return {0}
end
redis.call('ZADD', KEYS[1], t + ARGV[2], ARGV[1])
for _, key in ipairs(KEYS) do redis.call('PEXPIRE', key, ARGV[3]) end
local answer = {1}
for _, session in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', t, 'LIMIT', 0, 10)) do
  if named(session) then answer[#answer + 1] = session else redis.call('ZREM', KEYS[1], session) end
end
return answer
"""
)

# KEYS sessions info locks fence held; ARGV session, ms to keep, then for each key: the key, and the token of a release
# of it that got no answer (or 0): that release may still come, so the key gets a new token.
# → {0} if the session is not alive, else {1, for each key: {1, token} or {0, session, token, since, info}}
ACQUIRE = Script(
    _COMMON
    + """
local t, me = now(), ARGV[1]
local alive = {[me] = left(KEYS[1], me, t)}
if alive[me] <= 0 then return {0} end
local first, clock = exact(redis.call('GET', KEYS[4])), micros()
local last, answers = first, {1}
for i = 3, #ARGV, 2 do
  local key = ARGV[i]
  local session, token, since = parts(redis.call('HGET', KEYS[3], key))
  if session and not alive[session] then alive[session] = left(KEYS[1], session, t) end
  if session == me and token ~= ARGV[i + 1] then
    answers[#answers + 1] = {1, token}
  elseif session and session ~= me and alive[session] > 0 then
    local info = redis.call('HGET', KEYS[2], session)
    answers[#answers + 1] = {0, session, token, since, info or '{}'}
  else
    last = math.max(last + 1, exact(token) + 1, clock)
    redis.call('HSET', KEYS[3], key, me .. ' ' .. whole(last) .. ' ' .. whole(t))
    redis.call('SADD', KEYS[5], key)
    answers[#answers + 1] = {1, whole(last)}
  end
end
if last > first then
  redis.call('SET', KEYS[4], whole(last), 'PX', ARGV[2])
  redis.call('PEXPIRE', KEYS[3], ARGV[2])
  redis.call('PEXPIRE', KEYS[5], ARGV[2])
end
return answers
"""
)

# KEYS locks held; ARGV session, channels, outcome, then for each lease: its key, its token. → how many were released
RELEASE = Script(
    _COMMON
    + """
local released = 0
for i = 4, #ARGV, 2 do
  local session, token = parts(redis.call('HGET', KEYS[1], ARGV[i]))
  if session == ARGV[1] and token == ARGV[i + 1] then
    redis.call('HDEL', KEYS[1], ARGV[i])
    redis.call('SREM', KEYS[2], ARGV[i])
    tell(ARGV[2], ARGV[i], ARGV[3])
    released = released + 1
  end
end
return released
"""
)

# KEYS sessions info locks held; ARGV session, channels, outcome (empty: it has to be dead already), how many at most.
# → 1 if more is left to do. Its keys become free, which waiters are told.
END = Script(
    _COMMON
    + """
if ARGV[3] ~= '' then
  if redis.call('ZSCORE', KEYS[1], ARGV[1]) then redis.call('ZADD', KEYS[1], 0, ARGV[1]) end
elseif left(KEYS[1], ARGV[1], now()) > 0 then
  return 0
end
for _, key in ipairs(redis.call('SPOP', KEYS[4], ARGV[4])) do
  local session = parts(redis.call('HGET', KEYS[3], key))
  if session == ARGV[1] then
    redis.call('HDEL', KEYS[3], key)
    tell(ARGV[2], key, ARGV[3])
  end
end
if redis.call('EXISTS', KEYS[4]) == 1 then return 1 end
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('HDEL', KEYS[2], ARGV[1])
return 0
"""
)

# KEYS sessions locks; ARGV keys. → for each key the ms its holder's lease still runs, 0 or less if it is free
LOOK = Script(
    _COMMON
    + """
local t, answers, alive = now(), {}, {}
for i, key in ipairs(ARGV) do
  local session = parts(redis.call('HGET', KEYS[2], key))
  if session and not alive[session] then alive[session] = left(KEYS[1], session, t) end
  answers[i] = session and alive[session] or 0
end
return answers
"""
)

# KEYS sessions info. → sessions that are alive, each followed by what it told of itself
LIVING = Script(
    _COMMON
    + """
local answers = {}
for _, session in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. whole(now()), '+inf')) do
  if named(session) and left(KEYS[1], session, 0) > 0 then
    answers[#answers + 1] = session
    answers[#answers + 1] = redis.call('HGET', KEYS[2], session) or '{}'
  end
end
return answers
"""
)

# KEYS sessions; ARGV session. → the ms its lease still runs, 0 or less if it is dead
LEFT = Script(_COMMON + "return left(KEYS[1], ARGV[1], now())\n")

# KEYS locks; ARGV key, token, channels. → 1 if the lock was that one, and is free now
BREAK = Script(
    _COMMON
    + """
local _, token = parts(redis.call('HGET', KEYS[1], ARGV[1]))
if token ~= ARGV[2] then return 0 end
redis.call('HDEL', KEYS[1], ARGV[1])
tell(ARGV[3], ARGV[1], 'abandoned')
return 1
"""
)
