/**
 * A connection to Redis that looks after itself: alone, Cluster or Sentinel, plain or TLS.
 *
 * Guarantees: it connects by itself and for ever (back-off with jitter); creating it neither waits nor throws for an absent
 * server; a command fails at once while there is no connection and by its time limit otherwise, also when it was sent
 * already; a link on which commands go unanswered is dropped and made anew; nothing is ever sent twice, but on a Cluster:
 * there ioredis sends again what was on its way on a connection that broke (cluster/index.js, handleError), also after the
 * caller was refused. Every command of ours bears that.
 * Failure: errors of the connection reach `onError` without secrets, the same one at most every 5 s.
 * Not done by ioredis 6 and so left to the owner of a subscriber: channels are forgotten when a link breaks between
 * `ready` and the reply to its resubscription (built/redis/event_handler.js, readyHandler), so subscribe again at every
 * `ready`.
 */
import { Cluster, type ClusterOptions, Redis, type RedisOptions } from 'ioredis';
import { CodedError } from '../../lib/coded-error.ts';
import { type RedisPlace, parseRedisNodes, parseRedisUrl } from './place.ts';

/** Without the option that changes the types of answers. */
type Options = Omit<RedisOptions, 'replyMapping'>;

/** A client of any kind. */
export type RedisClient = Redis | Cluster;

/** How a client is made. */
export interface RedisClientOptions {
  /** The name in `CLIENT LIST`. */
  readonly name: string;
  readonly onError: (error: unknown) => void;
  /** For publish-subscribe: sharded channels on a Cluster. */
  readonly subscriber?: boolean;
  /** The longest that a command may take, in ms. Blocking commands need a client whose limit is above their wait. */
  readonly commandTimeoutMs?: number;
  /** After how long without a byte in answer to a command the link is dropped, in ms. */
  readonly socketTimeoutMs?: number;
  /** A CA (PEM) to trust instead of Node's own roots. */
  readonly ca?: string;
}

/** The longest that a command may take when nothing else is said, in ms. */
export const COMMAND_TIMEOUT_MS = 500;
const CONNECT_TIMEOUT_MS = 2000;
const RETRY_LEAST_MS = 50;
const RETRY_MOST_MS = 2000;
/** Beyond the command's limit: a link that swallows everything is dropped. */
export const SOCKET_GRACE_MS = 500;
/** After an orderly end of our side the link is destroyed; a frozen server never answers it. */
const DISCONNECT_TIMEOUT_MS = 200;
const KEEP_ALIVE_MS = 10_000;
const SAME_ERROR_MS = 5000;

/**
 * Creates a client.
 * @throws CodedError `redis-place` when the place cannot be read.
 */
export function createRedisClient(place: RedisPlace, options: RedisClientOptions): RedisClient {
  const { client, secrets } = made(place, options);
  const report = reporter(options.onError, secrets);
  client.on('error', report);
  if (client instanceof Cluster) client.on('node error', report);
  return client;
}

function made(place: RedisPlace, options: RedisClientOptions): { client: RedisClient; secrets: readonly string[] } {
  const shared = sharedOptions(options);
  if (place.kind === 'single') {
    const node = parseRedisUrl(place.url);
    if (node === undefined) throw new CodedError('redis-place', 'the URL of Redis cannot be read');
    const { host, port, db } = node;
    return { client: new Redis({ ...shared, ...access(node, options), host, port, db }), secrets: secretsOf(node) };
  }
  const nodes = parseRedisNodes(place.kind === 'cluster' ? place.nodes : place.sentinels);
  const secrets = secretsOf(nodes);
  const redisOptions = { ...shared, ...access(nodes, options) };
  if (place.kind === 'cluster') {
    return { client: new Cluster([...nodes.hosts], clusterOptions(redisOptions, options)), secrets };
  }
  const sentinels = [...nodes.hosts];
  return {
    client: new Redis({ ...redisOptions, ...sentinelOptions(nodes, redisOptions), sentinels, name: place.name }),
    secrets,
  };
}

function sharedOptions(options: RedisClientOptions): Options {
  const commandTimeout = options.commandTimeoutMs ?? COMMAND_TIMEOUT_MS;
  return {
    connectionName: options.name,
    commandTimeout,
    connectTimeout: CONNECT_TIMEOUT_MS,
    socketTimeout: options.socketTimeoutMs ?? commandTimeout + SOCKET_GRACE_MS,
    disconnectTimeout: DISCONNECT_TIMEOUT_MS,
    keepAlive: KEEP_ALIVE_MS,
    retryStrategy: delayOf,
    enableOfflineQueue: false,
    // What was under way when a link breaks is refused at once (0 retries) and not sent again on the next link, where it
    // would come late: after its caller had another answer.
    maxRetriesPerRequest: 0,
    autoResendUnfulfilledCommands: false,
    // Its resubscription is a promise that nobody holds: a rejection would end the process. The owner subscribes again.
    autoResubscribe: false,
    // A master that became a replica keeps its links: leave it, and ask anew who is the master.
    reconnectOnError: (error) => /^READONLY\b/.test(error.message),
    disableClientInfo: true,
  };
}

/** For a Cluster `retryStrategy` and `enableOfflineQueue` of `redisOptions` are not looked at: a lost node leaves the pool. */
function clusterOptions(
  redisOptions: Options,
  options: RedisClientOptions,
): Omit<ClusterOptions, 'redisOptions'> & { redisOptions: Options } {
  return {
    redisOptions,
    clusterRetryStrategy: delayOf,
    enableOfflineQueue: false,
    // Names stay names: certificates speak of them, and each connection looks them up anew.
    dnsLookup: (address, callback) => callback(null, address),
    // A Cluster that is down says so at once: to wait for it (100 ms, up to 16 times) is the circuit's work.
    retryDelayOnClusterDown: 0,
    slotsRefreshTimeout: CONNECT_TIMEOUT_MS,
    slotsRefreshInterval: 10_000,
    shardedSubscribers: options.subscriber ?? false,
  };
}

function sentinelOptions(nodes: { readonly tls: boolean }, redisOptions: Options): Options {
  const { username, password, tls, commandTimeout } = redisOptions;
  return {
    sentinelRetryStrategy: delayOf,
    sentinelCommandTimeout: Math.min(commandTimeout ?? COMMAND_TIMEOUT_MS, COMMAND_TIMEOUT_MS),
    enableTLSForSentinelMode: nodes.tls,
    ...(username === undefined ? {} : { sentinelUsername: username ?? '' }),
    ...(password === undefined ? {} : { sentinelPassword: password ?? '' }),
    ...(tls === undefined ? {} : { sentinelTLS: tls }),
  };
}

interface Access {
  readonly tls: boolean;
  readonly username: string | null;
  readonly password: string | null;
}

function access({ tls, username, password }: Access, { ca }: RedisClientOptions): Options {
  return {
    ...(username === null ? {} : { username }),
    ...(password === null ? {} : { password }),
    ...(tls ? { tls: ca === undefined ? {} : { ca } } : {}),
  };
}

/** Full jitter: many processes that lost one server do not come back as one. */
function delayOf(attempt: number): number {
  const most = Math.min(RETRY_MOST_MS, RETRY_LEAST_MS * 2 ** Math.min(attempt, 10));
  return RETRY_LEAST_MS + Math.random() * (most - RETRY_LEAST_MS);
}

function secretsOf({ username, password }: Access): readonly string[] {
  return [username, password].filter((text) => text !== null && text.length > 2) as string[];
}

/** Errors of ioredis carry the command with its arguments (AUTH too): only the text goes on, without the secrets. */
function reporter(onError: (error: unknown) => void, secrets: readonly string[]): (error: unknown) => void {
  let last = { text: '', at: Number.NEGATIVE_INFINITY };
  return (error) => {
    let text = error instanceof Error ? error.message : 'unknown';
    for (const secret of secrets) text = text.replaceAll(secret, '***');
    const at = performance.now();
    if (last.text === text && at - last.at < SAME_ERROR_MS) return;
    last = { text, at };
    onError(new CodedError('bus-unavailable', `Redis: ${text}`));
  };
}
