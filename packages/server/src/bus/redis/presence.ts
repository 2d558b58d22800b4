/**
 * Presence in Redis: who is where, in all processes.
 *
 * A board is a sorted set of `<instance>/<lease>/<id>` by the time of joining (µs of Redis, each greater than the one before,
 * so that the order is that of joining). An entry counts while its instance's lease lives (`leases.ts`, 5 s, renewed each
 * second); those of ended leases are not answered and taken away by whoever sees them.
 * Guarantees: of many who join at once each sees all who came before, so only the first `limit` see themselves within it.
 * This process's entries are listed here. When its lease ended (frozen, Redis emptied, failed over), or a command of it has an
 * unknown end, it takes a new lease and joins them all again: what was written under the old one is worth nothing then, also
 * if Redis executes it later. It joins them again under the same lease when a Cluster's nodes changed and every ten minutes.
 * An entry is left by id and instance.
 * Failure: `join`, `leave`, `list` and `peers` reject with `bus-unavailable`; joining and leaving count nevertheless, once
 * Redis is back.
 */
import { hasCode } from '../../lib/coded-error.ts';
import type { Presence, PresenceBoard } from '../ports/bus.ts';
import type { RedisClient } from './client.ts';
import { BOARD_KEPT_MS, boardKey, INSTANCES_KEY } from './keys.ts';
import { type LivingLeases, endLease, instanceOf, listLeases, newLease, renewLease, takeLease } from './leases.ts';
import type { RedisLink } from './link.ts';
import { type Script, script } from './script.ts';

/** How often the lease is renewed, in ms. */
export const RENEW_MS = 1000;
/** How often everything is joined anew (boards expire), in ms. */
export const REJOIN_MS = 600_000;
/** Entries that are joined anew in one go. */
export const REJOINS_MOST = 200;
/** Of a board that is joined anew nobody asks who else is on it. */
const NO_ANSWER = Number.MAX_SAFE_INTEGER;
/** Leases that are taken off with the next one: the last that was held, and tries whose end is unknown. */
const FORMER_MOST = 16;

/**
 * KEYS: a board. ARGV: entry, its time (µs) or '' for the next, and how many entries need no answer. Answers all entries and
 * times, in order, when they are more; else this one's. Something else under the key, which only others can have written, is
 * deleted; then one more element comes last.
 */
const JOIN: Script = script(`
local kind = redis.call('TYPE', KEYS[1]).ok
local strange = kind ~= 'zset' and kind ~= 'none'
if strange then redis.call('DEL', KEYS[1]) end
local score = redis.call('ZSCORE', KEYS[1], ARGV[1])
if not score then
  if ARGV[2] ~= '' then
    score = ARGV[2]
  else
    local time = redis.call('TIME')
    local now = time[1] * 1000000 + time[2]
    local last = redis.call('ZRANGE', KEYS[1], -1, -1, 'WITHSCORES')
    if last[2] then now = math.max(now, tonumber(last[2]) + 1) end
    score = string.format('%.0f', now)
  end
  redis.call('ZADD', KEYS[1], score, ARGV[1])
end
redis.call('PEXPIRE', KEYS[1], ${BOARD_KEPT_MS})
local answer
if redis.call('ZCARD', KEYS[1]) > tonumber(ARGV[3]) then
  answer = redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES')
else
  answer = { ARGV[1], redis.call('ZSCORE', KEYS[1], ARGV[1]) }
end
if strange then answer[#answer + 1] = 'strange' end
return answer
`);

/** What presence needs. */
export interface RedisPresenceOptions {
  readonly link: RedisLink;
  /** The name of this process; no `/` in it. */
  readonly instance: string;
  /** Hears, without secrets, what goes wrong in the background; it is tried again. */
  readonly onError: (error: unknown) => void;
  /** Everything was joined anew under a new lease: how many entries, and why. */
  readonly onRejoined?: (entries: number, why: RejoinReason) => void;
}

/** Why everything is joined anew. */
export type RejoinReason = 'started' | 'lease-ended' | 'unknown-end' | 'nodes-changed' | 'due';

/** Whether something may still be executed, or have been forgotten, under the lease. */
const NEEDS_NEW_LEASE: Readonly<Record<RejoinReason, boolean>> = {
  started: true,
  'lease-ended': true,
  'unknown-end': true,
  'nodes-changed': false,
  due: false,
};

/** {@link PresenceBoard} with the leases below it. */
export interface RedisPresence extends PresenceBoard {
  /** Ids of the instances whose lease lives. */
  peers(): Promise<readonly string[]>;
  /** Renews the lease now, or takes another one and joins everything anew. Never rejects; done each second anyway. */
  renew(): Promise<void>;
  /** Ends the lease, and with it all entries. */
  close(): Promise<void>;
}

/** An entry of this process, in µs. */
interface Own {
  /** Its time of joining as Redis gave it; null: no answer yet. */
  at: number | null;
  /** When it wanted to join, by the clock of this machine. */
  readonly wantedAt: number;
}

const machineNow = (): number => Date.now() * 1000;

interface Entry {
  readonly lease: string;
  readonly id: string;
  /** µs. */
  readonly at: number;
}

/** Creates the board and begins to hold a lease. */
export function createRedisPresence(options: RedisPresenceOptions): RedisPresence {
  const { link, instance } = options;
  if (instance === '' || instance.includes('/')) throw new RangeError('an instance has a name without /');
  /** What this process holds, by board and id. */
  const own = new Map<string, Map<string, Own>>();
  /** How far Redis's clock was ahead of this machine's when it last gave a time, µs. */
  let ahead = 0;
  let lease = newLease(instance);
  /** Those before it that Redis may still know. */
  let former: string[] = [];
  /** Why the lease must be taken anew before it is renewed again. */
  let wanted: RejoinReason | null = 'started';
  let rejoinedAt = 0;
  let living: LivingLeases = new Map();
  let looking: Promise<void> | null = null;
  let lookingNext: Promise<void> | null = null;
  let renewing: Promise<void> | null = null;
  let closed = false;

  const holds = (board: string, id: string): boolean => own.get(board)?.has(id) ?? false;
  const mine = (of: string): boolean => instanceOf(of) === instance;
  const lives = (of: string): boolean => (living.get(of) ?? 0) > performance.now();

  /** A command whose end is unknown may happen later: under this lease it would count. */
  async function certain<Result>(work: Promise<Result>): Promise<Result> {
    try {
      return await work;
    } catch (error) {
      wanted ??= 'unknown-end';
      throw error;
    }
  }

  /** The time for an entry that may have waited for Redis: it keeps its place among those who waited in other processes. */
  function timeOf(entry: Own | undefined): string {
    if (entry === undefined) return '';
    return String(entry.at ?? entry.wantedAt + ahead);
  }

  /** `at`: its time, or '' for the time of Redis. */
  async function joinUnder(
    client: RedisClient,
    board: string,
    id: string,
    at: string,
    most: number,
  ): Promise<readonly Entry[]> {
    const under = lease;
    const answer = await JOIN(client, [boardKey(board)], [`${under}/${id}`, at, String(most)]);
    const entries = entriesOf(answer);
    // What others had on that board is gone, and their leases live: without leases everybody joins everything anew.
    if (Array.isArray(answer) && answer.length % 2 === 1) await client.del(INSTANCES_KEY);
    const joined = entries.find((entry) => entry.lease === under && entry.id === id);
    const held = own.get(board)?.get(id);
    if (joined !== undefined && held !== undefined) held.at = joined.at;
    // It left while the script was on its way (it may have been sent a second time, after the leaving).
    else await client.zrem(boardKey(board), `${under}/${id}`);
    return entries;
  }

  /** Asks once for all who want to know now. An answer on its way may be older than what they have seen. */
  function look(): Promise<void> {
    if (looking !== null) {
      lookingNext ??= looking
        .catch(() => undefined)
        .then(() => {
          lookingNext = null;
          return look();
        });
      return lookingNext;
    }
    looking = listLeases(link)
      .then((found) => {
        living = found;
      })
      .finally(() => {
        looking = null;
      });
    return looking;
  }

  async function counted(board: string, entries: readonly Entry[]): Promise<Presence[]> {
    // A lease that is not known may be a new one.
    if (!entries.every(({ lease: of }) => mine(of) || lives(of))) await look();
    const dead = entries.filter(({ lease: of }) => (mine(of) ? of !== lease : !lives(of)));
    const members = dead.map(({ lease: of, id }) => `${of}/${id}`);
    if (dead.length > 0) link.run('leave', (client) => client.zrem(boardKey(board), ...members)).catch(() => undefined);
    const seen = new Set<string>();
    return entries
      .filter(({ lease: of, id }) => {
        // Ours count by our own list. Each counts once, whatever leases of its instance it was written under.
        const holder = `${instanceOf(of)}/${id}`;
        return (mine(of) ? holds(board, id) : lives(of)) && !seen.has(holder) && seen.add(holder);
      })
      .map(({ lease: of, id, at }) => ({ id, instance: instanceOf(of), since: Math.floor(at / 1000) }));
  }

  async function rejoin(why: RejoinReason): Promise<void> {
    wanted = null;
    try {
      if (NEEDS_NEW_LEASE[why]) {
        // While Redis is away none of the tries may reach it: the first of them is the one that it knows.
        if (former.length < FORMER_MOST) former.push(lease);
        lease = newLease(instance);
        living = (await takeLease(link, lease, former)).living;
        former = [];
      }
      const all = [...own].flatMap(([board, ids]) => [...ids.keys()].map((id) => ({ board, id })));
      for (let from = 0; from < all.length; from += REJOINS_MOST) {
        const some = all.slice(from, from + REJOINS_MOST).filter(({ board, id }) => holds(board, id));
        await link.run('rejoin', (client) =>
          Promise.all(
            some.map(({ board, id }) => joinUnder(client, board, id, timeOf(own.get(board)?.get(id)), NO_ANSWER)),
          ),
        );
      }
      rejoinedAt = performance.now();
      options.onRejoined?.(all.length, why);
    } catch (error) {
      // A command of it may have an unknown end.
      wanted = 'unknown-end';
      throw error;
    }
  }

  async function renewOnce(): Promise<void> {
    try {
      if (wanted === null || !NEEDS_NEW_LEASE[wanted]) {
        const answer = await renewLease(link, lease);
        living = answer.living;
        if (!answer.held) wanted = 'lease-ended';
        else if (performance.now() - rejoinedAt > REJOIN_MS) wanted ??= 'due';
      }
      if (wanted !== null) await rejoin(wanted);
    } catch (error) {
      // That Redis is away is told by the link; the next turn tries again.
      if (!hasCode(error, 'bus-unavailable')) options.onError(error);
    }
  }

  function renew(): Promise<void> {
    renewing ??= renewOnce().finally(() => {
      renewing = null;
    });
    return renewing;
  }

  // On a Cluster the boards of a node that failed over may have lost their last entries.
  const onNodes = (): void => void (wanted ??= 'nodes-changed');
  link.client.on('-node', onNodes);
  const onReady = (): void => void renew();
  link.client.on('ready', onReady);
  const timer = setInterval(() => void renew(), RENEW_MS);
  void renew();

  return {
    async join(board, id, most = 0) {
      const ids = own.get(board) ?? new Map<string, Own>();
      own.set(board, ids);
      const held = ids.get(id);
      if (held === undefined) ids.set(id, { at: null, wantedAt: machineNow() });
      const at = timeOf(held);
      const entries = await certain(link.run('join', (client) => joinUnder(client, board, id, at, most)));
      const joined = held === undefined ? entries.find((entry) => entry.id === id && mine(entry.lease)) : undefined;
      if (joined !== undefined) ahead = joined.at - machineNow();
      if (entries.length <= most) return [];
      const holders = await counted(board, entries);
      return holders.length > most ? holders : [];
    },
    async leave(board, id) {
      const ids = own.get(board);
      if (!ids?.delete(id)) return;
      if (ids.size === 0) own.delete(board);
      await certain(link.run('leave', (client) => client.zrem(boardKey(board), `${lease}/${id}`)));
    },
    async list(board) {
      const found = await link.run('list', (client) => client.zrange(boardKey(board), '0', '-1', 'WITHSCORES'));
      return counted(board, entriesOf(found));
    },
    async peers() {
      await look();
      return [...new Set([...living.keys()].map(instanceOf))];
    },
    renew,
    async close() {
      if (closed) return;
      closed = true;
      clearInterval(timer);
      link.client.off('-node', onNodes);
      link.client.off('ready', onReady);
      await renewing;
      await endLease(link, lease).catch(() => undefined);
    },
  };
}

/** Parses `<instance>/<lease>/<id>` and times, one after the other. An entry of another form is not answered. */
function entriesOf(answer: unknown): readonly Entry[] {
  if (!Array.isArray(answer)) throw new TypeError('a board answered something else');
  const entries: Entry[] = [];
  for (let index = 0; index + 1 < answer.length; index += 2) {
    const match = /^([^/]+\/[^/]+)\/(.+)$/s.exec(String(answer[index]));
    if (match) entries.push({ lease: match[1] ?? '', id: match[2] ?? '', at: Number(answer[index + 1]) });
  }
  return entries;
}
