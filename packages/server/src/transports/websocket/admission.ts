/**
 * The limits on connections that hold for the whole cluster: per address, per user and path (newest wins), and how often a
 * user may connect in a minute. They live on the bus and end with it: a bus that fails lets everybody in.
 */
import type { Refusal } from '@tocsin/protocol/errors';
import type { BucketShape, Cells, Limiter, PresenceBoard, PublishSubscribe, Unsubscribe } from '../../bus/ports/bus.ts';

/** Close codes after which the next connect of the user does not count. */
const FREE_AFTER: ReadonlySet<number> = new Set([1001, 1012, 1013, 4008]);
/** How long such a free connect is kept, in ms. */
const FREE_MS = 600_000;
/** Free connects that are kept for a user and path at most. */
const FREE_MOST = 8;
const REPLACED_TOPIC = 'websocket:replaced';

/** What admission needs. */
export interface AdmissionOptions {
  readonly cells: Cells;
  readonly limiter: Limiter;
  readonly presence: PresenceBoard;
  readonly pubsub: PublishSubscribe;
  readonly maxConnectionsPerUser: number;
  readonly maxConnectionsPerAddress: number;
  readonly reconnectsPerMinute: number;
  /** Closes a connection of this process with 4001; unknown ids are ignored. */
  readonly replace: (connection: string) => void;
  readonly onFailure: (error: unknown) => void;
}

/** The limits on connections. Nothing here rejects. */
export interface Admission {
  start(): Promise<void>;
  stop(): Promise<void>;
  /** Takes a place of the address for this connection, or refuses (then it holds none). */
  enterAddress(addressKey: string, connection: string): Promise<Refusal | null>;
  leaveAddress(addressKey: string, connection: string): void;
  /** Counts a connect of the user, unless it was told to come back. */
  countConnect(path: string, user: string): Promise<Refusal | null>;
  /** The server closes a connection of the user with `code`: the way back may be free. */
  noteClose(path: string, user: string, code: number): void;
  /** Takes a place of the user; the oldest ones over the limit are closed, wherever they are. */
  enterUser(path: string, user: string, connection: string): Promise<void>;
  leaveUser(path: string, user: string, connection: string): void;
}

const addressPlace = (addressKey: string): string => `ws:ip:${addressKey}`;
const userPlace = (path: string, user: string): string => `ws:${path}:user:${user}`;

/** Creates the limits. */
export function createAdmission(options: AdmissionOptions): Admission {
  const { cells, limiter, presence, pubsub, onFailure } = options;
  const connects: BucketShape = { ratePerSecond: options.reconnectsPerMinute / 60, burst: options.reconnectsPerMinute };
  let unsubscribe: Unsubscribe | null = null;

  async function guarded<Result>(work: () => Promise<Result>, otherwise: Result): Promise<Result> {
    try {
      return await work();
    } catch (error) {
      onFailure(error);
      return otherwise;
    }
  }
  const freeKeys = (path: string, user: string): string[] =>
    Array.from(
      { length: Math.min(FREE_MOST, options.maxConnectionsPerUser) },
      (_, slot) => `ws:free:${path}:${user}:${slot}`,
    );

  return {
    async start() {
      unsubscribe = await guarded(() => pubsub.subscribe(REPLACED_TOPIC, options.replace), null);
    },
    async stop() {
      await guarded(async () => unsubscribe?.(), undefined);
    },
    enterAddress: (addressKey, connection) =>
      guarded(async () => {
        const holders = await presence.join(addressPlace(addressKey), connection, options.maxConnectionsPerAddress);
        if (holders.length === 0) return null;
        await presence.leave(addressPlace(addressKey), connection);
        const quota = { name: 'address', quota: options.maxConnectionsPerAddress, windowSeconds: 5 };
        const detail = `This address may have ${options.maxConnectionsPerAddress} connections (WS_MAX_CONNECTIONS_PER_IP)`;
        return { code: 'rate-limited', detail, retryAfterMs: 5000, quota };
      }, null),
    leaveAddress(addressKey, connection) {
      void guarded(() => presence.leave(addressPlace(addressKey), connection), undefined);
    },
    countConnect: (path, user) =>
      guarded(async () => {
        for (const key of freeKeys(path, user)) if ((await cells.take(key)) !== null) return null;
        const answer = await limiter.take(`ws:connect:${path}:${user}`, connects);
        if (answer.allowed) return null;
        const quota = { name: 'connects', quota: options.reconnectsPerMinute, windowSeconds: 60 };
        return {
          code: 'rate-limited',
          detail: `This user may connect ${options.reconnectsPerMinute} times in a minute (WS_RECONNECTS_PER_MINUTE)`,
          retryAfterMs: answer.retryAfterMs,
          quota,
        };
      }, null),
    noteClose(path, user, code) {
      if (!FREE_AFTER.has(code)) return;
      void guarded(async () => {
        for (const key of freeKeys(path, user)) if (await cells.setIfAbsent(key, '1', FREE_MS)) return;
      }, undefined);
    },
    enterUser: (path, user, connection) =>
      guarded(async () => {
        const most = options.maxConnectionsPerUser;
        const holders = await presence.join(userPlace(path, user), connection, most);
        const over = holders.slice(0, Math.max(0, holders.length - most));
        for (const { id } of over) {
          options.replace(id);
          await guarded(() => pubsub.publish(REPLACED_TOPIC, id), undefined);
        }
      }, undefined),
    leaveUser(path, user, connection) {
      void guarded(() => presence.leave(userPlace(path, user), connection), undefined);
    },
  };
}
