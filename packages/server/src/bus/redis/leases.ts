/**
 * Leases of processes in Redis: `session:{instances}` holds `<instance>/<lease>` by the time at which it ends.
 *
 * Guarantees: times are Redis's own. A lease that has ended, or that Redis has forgotten, is never renewed: its instance
 * takes another one, with another name; one that ends later than any can (Redis's clock was set back) has ended. So whatever was said under a lease that is gone stays gone, also when a command
 * that timed out is executed later. Something else under the key, which only others can have written, is deleted.
 * Failure: everything rejects with `bus-unavailable` when Redis is away.
 */
import { randomBytes } from 'node:crypto';
import { INSTANCES_KEPT_MS, INSTANCES_KEY, INSTANCE_LEASE_MS } from './keys.ts';
import type { RedisLink } from './link.ts';
import { type Script, script } from './script.ts';

/** A lease that lives, and for how long by what is known (ms of `performance.now()`). */
export type LivingLeases = ReadonlyMap<string, number>;

/** What is answered by taking and renewing. */
export interface LeaseAnswer {
  /** False: the lease has ended. */
  readonly held: boolean;
  readonly living: LivingLeases;
}

const LOOK = `
local kind = redis.call('TYPE', KEYS[1]).ok
if kind ~= 'zset' and kind ~= 'none' then redis.call('DEL', KEYS[1]) end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now))
redis.call('ZREMRANGEBYSCORE', KEYS[1], string.format('(%.0f', now + ${2 * INSTANCE_LEASE_MS}), '+inf')
`;
const ANSWER = `
redis.call('PEXPIRE', KEYS[1], ${INSTANCES_KEPT_MS})
local found = redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES')
local answer = { held }
for index = 1, #found, 2 do
  answer[#answer + 1] = found[index]
  answer[#answer + 1] = tonumber(found[index + 1]) - now
end
return answer
`;
const UNTIL = `string.format('%.0f', now + ${INSTANCE_LEASE_MS})`;

/** KEYS: instances. ARGV: the new lease, those that it replaces. Answers 1, then each living lease and its rest in ms. */
const TAKE: Script = script(
  `${LOOK}for i = 2, #ARGV do redis.call('ZREM', KEYS[1], ARGV[i]) end\n` +
    `redis.call('ZADD', KEYS[1], ${UNTIL}, ARGV[1])\nlocal held = 1${ANSWER}`,
);
/** The same for a lease that is held: 0 when it has ended. Only an existing one is renewed. */
const RENEW: Script = script(
  `${LOOK}local held = redis.call('ZSCORE', KEYS[1], ARGV[1]) and 1 or 0\n` +
    `redis.call('ZADD', KEYS[1], 'XX', ${UNTIL}, ARGV[1])${ANSWER}`,
);
/** Only looks. */
const LIST: Script = script(`${LOOK}local held = 0${ANSWER}`);

/** A new name for a lease of `instance`. */
export function newLease(instance: string): string {
  return `${instance}/${randomBytes(9).toString('base64url')}`;
}

/** The instance of a lease. */
export function instanceOf(lease: string): string {
  return lease.slice(0, lease.lastIndexOf('/'));
}

/** Takes `lease` in place of `former` ones. */
export function takeLease(link: RedisLink, lease: string, former: readonly string[]): Promise<LeaseAnswer> {
  return asked(link, TAKE, [lease, ...former]);
}

/** Renews `lease`, if it still lives. */
export function renewLease(link: RedisLink, lease: string): Promise<LeaseAnswer> {
  return asked(link, RENEW, [lease]);
}

/** Answers the leases that live. */
export async function listLeases(link: RedisLink): Promise<LivingLeases> {
  return (await asked(link, LIST, [])).living;
}

/** Ends `lease`. */
export async function endLease(link: RedisLink, lease: string): Promise<void> {
  await link.run('lease', (client) => client.zrem(INSTANCES_KEY, lease));
}

async function asked(link: RedisLink, work: Script, values: readonly string[]): Promise<LeaseAnswer> {
  // Before the question: what Redis answers is counted from then, so nobody seems to live longer than it does.
  const at = performance.now();
  const answer = await link.run('lease', (client) => work(client, [INSTANCES_KEY], values));
  if (!Array.isArray(answer)) throw new TypeError('the script of leases answered something else');
  const living = new Map<string, number>();
  for (let index = 1; index + 1 < answer.length; index += 2) {
    living.set(String(answer[index]), at + Number(answer[index + 1]));
  }
  return { held: answer[0] === 1, living };
}
