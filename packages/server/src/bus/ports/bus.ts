/**
 * The bus: what processes share for speed. Losing it costs milliseconds, never a message: everything that must not be
 * lost is in the store already. One process: `bus/memory`. Several: `bus/redis`. One contract suite runs on each.
 *
 * Failure: while a shared bus is away, limits, cells and presence are those of this process alone (they answer, and do
 * not reject); `publish` reaches this process's own subscribers only and rejects with `bus-unavailable`.
 */

/** Publish-subscribe. Delivery is at most once, in the order of publication for one topic and publisher. */
export interface PublishSubscribe {
  /** Sends `payload` to every subscriber of `topic` in every process, this one included. */
  publish(topic: string, payload: string): Promise<void>;
  /**
   * Calls `listener` for each payload. A listener that throws does not harm the others. Resolves once it is live, or, when
   * a shared bus is away, once this process's own messages are heard: the rest follows when the bus is back.
   */
  subscribe(topic: string, listener: TopicListener): Promise<Unsubscribe>;
}

/** Hears a payload, and when it was published (Unix ms, by the publisher's clock). */
export type TopicListener = (payload: string, publishedAt: number) => void;

/** Ends a subscription; calling it twice does nothing more. */
export type Unsubscribe = () => Promise<void>;

/** Small shared values with an end of life. Keys and values are text. */
export interface Cells {
  get(key: string): Promise<string | null>;
  /** Sets the value; it vanishes after `ttlMs`. */
  set(key: string, value: string, ttlMs: number): Promise<void>;
  /** Sets only when absent; answers whether it did. */
  setIfAbsent(key: string, value: string, ttlMs: number): Promise<boolean>;
  /** Reads and deletes in one step. */
  take(key: string): Promise<string | null>;
  delete(key: string): Promise<void>;
}

/** A token bucket's shape: `ratePerSecond` tokens a second flow in, at most `burst` are held; it starts full. */
export interface BucketShape {
  readonly ratePerSecond: number;
  readonly burst: number;
}

/** The answer of a bucket. `retryAfterMs` is 0 when allowed, else the wait until `cost` tokens are there. */
export interface BucketAnswer {
  readonly allowed: boolean;
  readonly remaining: number;
  readonly retryAfterMs: number;
}

/** Token buckets by key. */
export interface Limiter {
  /** Takes `cost` tokens (default 1) from the bucket `key`, or none. A cost over the burst is never allowed. */
  take(key: string, shape: BucketShape, cost?: number): Promise<BucketAnswer> | BucketAnswer;
}

/** One holder of a place, for instance one connection of a user. */
export interface Presence {
  readonly id: string;
  readonly instance: string;
  readonly since: number;
}

/**
 * Who is where, by key (`ws:/ws/alerts:user:<id>`, `ws:ip:<address>` …). Entries belong to an instance's lease and
 * vanish with it.
 */
export interface PresenceBoard {
  /**
   * Adds an entry. When the key has more than `most` (default 0) then: answers them all, this one included, oldest first;
   * else none, so that the thousandth holder of a place costs no more than the first.
   */
  join(key: string, id: string, most?: number): Promise<Presence[]>;
  leave(key: string, id: string): Promise<void>;
  list(key: string): Promise<Presence[]>;
}

/** Everything that processes share. */
export interface Bus {
  readonly pubsub: PublishSubscribe;
  readonly cells: Cells;
  readonly limiter: Limiter;
  readonly presence: PresenceBoard;
  /** True when other processes can be on it. */
  readonly shared: boolean;
  /** Ids of the instances whose lease on the bus lives, this one included; rejects with `bus-unavailable`. */
  peers(): Promise<readonly string[]>;
  /** True while a probe travels the bus (within the last 10 s). */
  healthy(): boolean;
  close(): Promise<void>;
}
