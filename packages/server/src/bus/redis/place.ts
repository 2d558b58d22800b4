/**
 * Where Redis is: alone, a Cluster, or behind Sentinels, as the settings say it. Pure.
 *
 * A node is `host:port` or `redis(s)://user:password@host:port`. A list of nodes has one way in: the credentials of its
 * first entry that has some, and TLS when any entry is `rediss://`, hold for every node, found ones included (Sentinels
 * and the servers behind them alike). Certificates are checked against Node's roots and NODE_EXTRA_CA_CERTS.
 * Failure: a text that is none is `undefined`; nothing here ever puts a text (it may hold a password) into an error.
 */
import { CodedError } from '../../lib/coded-error.ts';

/** Where Redis is. */
export type RedisPlace =
  | { readonly kind: 'single'; readonly url: string }
  | { readonly kind: 'cluster'; readonly nodes: readonly string[] }
  | { readonly kind: 'sentinel'; readonly sentinels: readonly string[]; readonly name: string };

/** One node, parsed. */
export interface RedisNode {
  readonly host: string;
  readonly port: number;
  readonly tls: boolean;
  readonly username: string | null;
  readonly password: string | null;
  /** The database (`SELECT`); 0 in a Cluster. */
  readonly db: number;
}

/** The nodes of a list and the way in that they share. */
export interface RedisNodes {
  readonly hosts: readonly { readonly host: string; readonly port: number }[];
  readonly tls: boolean;
  readonly username: string | null;
  readonly password: string | null;
}

/** The fields of the settings that say where Redis is. */
export interface RedisSettings {
  readonly redisUrl: string | null;
  readonly redisClusterNodes: readonly string[] | null;
  readonly redisSentinels: readonly string[] | null;
  readonly redisSentinelName: string | null;
}

const DEFAULT_PORT = 6379;
const LONGEST = 2000;
const HOST = /^(?:\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,252}))$/;
const SCHEME = /^rediss?:\/\//;

/** Parses a `redis://` or `rediss://` URL: `[user][:password]@host[:port][/database]`, without query or fragment. */
export function parseRedisUrl(text: string): RedisNode | undefined {
  if (text.length > LONGEST || /[\s\p{Cc}?#]/u.test(text) || !SCHEME.test(text)) return undefined;
  try {
    const url = new URL(text);
    const db = /^\/?$/.test(url.pathname) ? '0' : url.pathname.slice(1);
    const port = url.port === '' ? DEFAULT_PORT : Number(url.port);
    if (!HOST.test(url.hostname) || port < 1 || !/^\d{1,5}$/.test(db)) return undefined;
    return {
      host: url.hostname.replace(/^\[|\]$/g, ''),
      port,
      tls: url.protocol === 'rediss:',
      username: decodeURIComponent(url.username) || null,
      password: decodeURIComponent(url.password) || null,
      db: Number(db),
    };
  } catch {
    return undefined;
  }
}

/** Parses a node of a list: `host:port`, or a URL with a port and without a database. */
export function parseRedisNode(text: string): RedisNode | undefined {
  const node = parseRedisUrl(SCHEME.test(text) ? text : `redis://${text}`);
  const bare = text.replace(SCHEME, '').replace(/^.*@/, '');
  const credentials = !SCHEME.test(text) && text.includes('@');
  return node !== undefined && !credentials && /:\d{1,5}$/.test(bare) ? node : undefined;
}

/**
 * Parses a list of nodes.
 * @throws CodedError `redis-place` for an empty list or an entry that is no node.
 */
export function parseRedisNodes(texts: readonly string[]): RedisNodes {
  const nodes = texts.map((text, index) => {
    const node = parseRedisNode(text);
    if (node === undefined) throw new CodedError('redis-place', `entry ${index + 1} of the list is no node of Redis`);
    return node;
  });
  if (nodes.length === 0) throw new CodedError('redis-place', 'a list of nodes of Redis is empty');
  const known = nodes.find(({ password }) => password !== null);
  return {
    hosts: nodes.map(({ host, port }) => ({ host, port })),
    tls: nodes.some(({ tls }) => tls),
    username: known?.username ?? null,
    password: known?.password ?? null,
  };
}

/** The place that the settings name, or null when there is no Redis (the settings check that only one is named). */
export function redisPlaceOf(settings: RedisSettings): RedisPlace | null {
  const { redisUrl, redisClusterNodes, redisSentinels, redisSentinelName } = settings;
  if (redisUrl !== null) return { kind: 'single', url: redisUrl };
  if (redisClusterNodes !== null) return { kind: 'cluster', nodes: redisClusterNodes };
  if (redisSentinels !== null && redisSentinelName !== null) {
    return { kind: 'sentinel', sentinels: redisSentinels, name: redisSentinelName };
  }
  return null;
}
