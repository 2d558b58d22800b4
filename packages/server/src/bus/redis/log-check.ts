/**
 * Whether a Redis may hold the log: what it acknowledges it must keep. Asked of every master at the start.
 *
 * `INFO` says all of it (https://redis.io/docs/latest/commands/info/): what the server does now, also where managed ones
 * forbid `CONFIG GET`. The log's scripts ask `INFO` too, so a server that forbids it is refused here and not by them.
 */
import { Cluster } from 'ioredis';
import { CodedError } from '../../lib/coded-error.ts';
import type { RedisClient, RedisLink } from './link.ts';

/** EXPIRE … NX, ENTRIESREAD and scripts that may ask for the time before they write. */
const OLDEST_MAJOR = 7;

/**
 * Resolves when every master is suitable. Rejects with CodedError `log-redis-unsuitable`, one line that says how to mend
 * it, or `bus-unavailable` when one does not answer.
 */
export async function checkLogRedis(link: RedisLink): Promise<void> {
  const masters = link.client instanceof Cluster ? link.client.nodes('master') : [link.client];
  for (const master of masters) {
    const complaint = complaintOf(await link.run('log-check', () => infoOf(master)));
    if (complaint !== null) throw new CodedError('log-redis-unsuitable', `LOG_BACKEND=redis: ${complaint}`);
  }
  if (masters.length === 0) throw new CodedError('bus-unavailable', 'Redis: no master is known');
}

/** Null: it may not be asked. */
async function infoOf(client: RedisClient): Promise<ReadonlyMap<string, string> | null> {
  try {
    const text = await client.eval("return redis.call('INFO', 'everything')", 0);
    return parseInfo(String(text));
  } catch (error) {
    if (error instanceof Error && /NOPERM|unknown command|not allowed|can't run/i.test(error.message)) return null;
    throw error;
  }
}

/** The lines `name:value` of INFO. Pure. */
export function parseInfo(text: string): ReadonlyMap<string, string> {
  const lines = text.split(/\r?\n/).filter((line) => /^[a-z]/.test(line));
  return new Map(lines.map((line) => [line.slice(0, line.indexOf(':')), line.slice(line.indexOf(':') + 1)]));
}

/** What is wrong with a server by its INFO (null: may not be asked), or null. Pure. */
export function complaintOf(info: ReadonlyMap<string, string> | null): string | null {
  if (info === null)
    return 'Redis does not let this user run EVAL and INFO; allow both (ACL SETUSER … +eval +evalsha +info)';
  const version = info.get('redis_version') ?? 'unknown';
  const where = `Redis ${version} on port ${info.get('tcp_port') ?? 'unknown'}`;
  if (!(Number.parseInt(version, 10) >= OLDEST_MAJOR))
    return `${where} is too old; it needs ${OLDEST_MAJOR}.0 or later`;
  if (!/^[0-9a-f]+$/.test(info.get('master_replid') ?? '')) return `${where} does not tell its replication id in INFO`;
  if (info.get('aof_enabled') !== '1')
    return `${where} would lose accepted readings when it ends; set "appendonly yes" (CONFIG SET appendonly yes, and in its file)`;
  const policy = info.get('maxmemory_policy') ?? 'unknown';
  if (policy !== 'noeviction')
    return `${where} may drop accepted readings ("${policy}"); set "maxmemory-policy noeviction" (CONFIG SET, and in its file)`;
  return null;
}
