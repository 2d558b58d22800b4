/**
 * The log's Lua scripts. Each runs as one step: nothing comes between its parts, and after a crash the append-only file
 * has all of it or nothing (what a script writes is one MULTI, https://redis.io/docs/latest/develop/programmability/).
 *
 * The keys (`keys.ts`): the stream's entries are `<offset>-0` with the fields `meta` and `body` (`log-record.ts`). The head
 * has the fields `head` (newest offset given), `floor` (no offset is given at or below it), `stamp` (whose they are) and
 * `trimmed` (the position of the last trim). The ids lead from `<device> <envelope>` to the digest; those of frames to nothing,
 * as they tell the content themselves.
 *
 * The stamp is the log's generation and the server's replication id. Redis takes a new one of these at every start and
 * every promotion (https://redis.io/docs/latest/operate/oss_and_stack/management/replication/), so it differs whenever
 * acknowledged writes may be gone. Asking for it costs 3 µs a script (measured; `INFO server` with the run id 4 µs, and
 * the run id comes back when a master that lost its tail in one failover is promoted again in the next).
 */
import { type Script, script } from './script.ts';

/** What a script knows first: `now` in ms, `stamp` as the server has it now, `top` the newest offset or the floor. */
const BEGIN = `
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local stamp = ARGV[1] .. ':' .. string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)')
local known = redis.call('HMGET', KEYS[1], 'stamp', 'head', 'floor')
local top = math.max(tonumber(known[2] or 0), tonumber(known[3] or 0))
local function text(number) return string.format('%.0f', number) end
`;

/**
 * Appends. KEYS: head, records, ids of the day, ids of the other days (of frames: half hours). ARGV: generation, the last ms
 * by the server's clock at which it may take effect, seconds that ids are kept, then id (or ''), digest, meta, body of each record.
 * Answers {'done', now, one letter for each record: a(ccepted) r(eplay) c(onflict)}, {'late', now} or
 * {'resync', now, stamp, top}; in the last two nothing has happened.
 */
export const APPEND: Script = script(`${BEGIN}
if now > tonumber(ARGV[2]) then return {'late', now} end
if known[1] ~= stamp then return {'resync', now, stamp, text(top)} end
local ids = {}
for i = 4, #ARGV, 4 do
  if ARGV[i] ~= '' then ids[#ids + 1] = ARGV[i] end
end
local seen = {}
for k = 3, #KEYS do
  if #ids > 0 and redis.call('EXISTS', KEYS[k]) == 1 then
    local found = redis.call('HMGET', KEYS[k], unpack(ids))
    for i = 1, #ids do
      if found[i] then seen[ids[i]] = found[i] end
    end
  end
end
local outcomes, fresh = {}, {}
for i = 4, #ARGV, 4 do
  local id, digest = ARGV[i], ARGV[i + 1]
  if seen[id] then
    outcomes[#outcomes + 1] = seen[id] == digest and 'r' or 'c'
  else
    top = top + 1
    redis.call('XADD', KEYS[2], text(top) .. '-0', 'meta', ARGV[i + 2], 'body', ARGV[i + 3])
    outcomes[#outcomes + 1] = 'a'
    if id ~= '' then
      seen[id] = digest
      fresh[#fresh + 1] = id
      fresh[#fresh + 1] = digest
    end
  end
end
if #fresh > 0 then
  redis.call('HSET', KEYS[3], unpack(fresh))
  redis.call('EXPIRE', KEYS[3], ARGV[3], 'NX')
end
redis.call('HSET', KEYS[1], 'head', text(top))
return {'done', now, table.concat(outcomes)}`);

/**
 * Puts a floor under the offsets to come. KEYS: head. ARGV: generation, the stamp that was seen, the floor, the installation.
 * Answers 1 (also when another process was quicker), 0 when the server is another one meanwhile: the floor may be too low
 * for it; or -1 when the partition is of another installation.
 */
export const RAISE: Script = script(`${BEGIN}
if ARGV[2] ~= stamp then return 0 end
if known[1] == stamp then return 1 end
if known[1] and string.sub(known[1], 1, #ARGV[4]) ~= ARGV[4] then return -1 end
redis.call('HSET', KEYS[1], 'stamp', stamp, 'floor', text(math.max(top, tonumber(ARGV[3]))))
return 1`);

/**
 * Reads. KEYS: records. ARGV: position, most records, most bytes of bodies past the first record. Answers
 * '<offset>-0 <meta>\\n<body>' of each: one text a record is decoded in 5 µs by ioredis, the entry as it is in 9.
 */
export const READ: Script = script(`
local out, n, bytes, from = {}, 0, 0, '(' .. ARGV[1] .. '-0'
local most, mostBytes = tonumber(ARGV[2]), tonumber(ARGV[3])
while n < most do
  local page = redis.call('XRANGE', KEYS[1], from, '+', 'COUNT', math.min(64, most - n))
  if #page == 0 then break end
  for _, entry in ipairs(page) do
    if n > 0 and bytes >= mostBytes then return out end
    local fields = entry[2]
    n = n + 1
    out[n] = entry[1] .. ' ' .. fields[2] .. '\\n' .. fields[4]
    bytes = bytes + #fields[4]
  end
  from = '(' .. page[#page][1]
end
return out`);

/**
 * Deletes what is worked off and moves the consumer group, so that Redis' own tools show the lag. KEYS: head, records.
 * ARGV: position. A position beyond every offset given (writes were lost, or two masters took them) makes the stamp that of
 * no server: the next append resyncs. Answers how many records went.
 */
export const TRIM: Script = script(`
local known = redis.call('HMGET', KEYS[1], 'trimmed', 'head', 'floor', 'stamp')
if known[1] == ARGV[1] or redis.call('EXISTS', KEYS[2]) == 0 then return 0 end
local position = tonumber(ARGV[1])
if position > math.max(tonumber(known[2] or 0), tonumber(known[3] or 0)) and known[4] then
  redis.call('HSET', KEYS[1], 'stamp', string.match(known[4], '^[^:]*') .. ':')
end
local gone = redis.call('XTRIM', KEYS[2], 'MINID', string.format('%.0f-0', position + 1))
local info, added = redis.call('XINFO', 'STREAM', KEYS[2]), 0
for i = 1, #info, 2 do
  if info[i] == 'entries-added' then added = info[i + 1] end
end
redis.pcall('XGROUP', 'CREATE', KEYS[2], 'workers', '0')
redis.call('XGROUP', 'SETID', KEYS[2], 'workers', ARGV[1] .. '-0', 'ENTRIESREAD', added - redis.call('XLEN', KEYS[2]))
redis.call('HSET', KEYS[1], 'trimmed', ARGV[1])
return gone`);

/** Drops days of ids. KEYS: ids of those days. Answers how many ids went. */
export const FORGET: Script = script(`
local gone = 0
for _, key in ipairs(KEYS) do
  gone = gone + redis.call('HLEN', key)
  redis.call('UNLINK', key)
end
return gone`);

/** Remembers ids from elsewhere. KEYS: ids of a day. ARGV: seconds that they are kept, then id, digest of each. */
export const REMEMBER: Script = script(`
for i = 2, #ARGV, 2 do redis.call('HSETNX', KEYS[1], ARGV[i], ARGV[i + 1]) end
redis.call('EXPIRE', KEYS[1], ARGV[1], 'NX')
return 1`);
