/**
 * The link to an outside MQTT broker: messages of its topics go to `take`, and are acknowledged when `take` says so.
 *
 * Every process holds a slot of the store, that is a client id with a session which outlives connections. Where the broker shares
 * subscriptions all processes are connected, and share the messages when they are several; a single one subscribes plainly.
 * Elsewhere the holder of slot 0 is connected, and the others stand by; so it is with a broker that forgets shared
 * subscriptions when it restarts (`link-sharing.ts`): it is asked once for each connection, when several work. From plain to shared and back the new subscription comes before the end of the old:
 * some messages come twice, none is missed.
 * A slot whose process died is adopted by one that is connected: it takes what the broker kept, and ends that session.
 *
 * Guarantees: a message of QoS 1 that the broker has accepted for us is taken at least once, whatever dies: PUBACK
 * follows `take`, in the order of arrival. At most {@link WINDOW_MESSAGES} messages and {@link WINDOW_BYTES} are in memory,
 * however slow `take` is; the broker keeps the rest.
 * Order: messages of a device are tried in the order in which a connection brings them (`link-window.ts`).
 * Failure: never rejects. A connection that fails is tried again with a growing wait; `state` says why.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Clock } from '../../lib/clock.ts';
import type { Logger } from '../../ops/logging.ts';
import type { Metrics } from '../../ops/metrics.ts';
import { throttled } from '../../ops/throttled-log.ts';
import type { MqttSlot, MqttSlots } from '../../store/ports/mqtt-slots.ts';
import { createBackoff } from './link-backoff.ts';
import { type Connection, type LinkTimes, openConnection, WINDOW_MESSAGES } from './link-connection.ts';
import { holdLease, type Lease, type LeaseTimes } from './link-lease.ts';
import { askVersion } from './link-inquiry.ts';
import { LinkError, linkError, type LinkReason } from './link-reason.ts';
import { createRoom } from './link-room.ts';
import { forgetsShares } from './link-sharing.ts';
import type { LinkTarget } from './link-stream.ts';
import { createVersionChoice, type VersionOutcome } from './link-version.ts';
import type { RefusedUnread, TakeMqttMessage } from './message.ts';
import { deviceTopic } from './topic.ts';

/** Where to connect and what to take. */
export interface BrokerLinkSettings extends LinkTarget {
  /** Topic filters that say where the device is (`topic.ts`), e.g. `devices/+/metrics`. */
  readonly filters: readonly string[];
  /** Several processes share subscriptions where the broker does; false: one is connected, the others stand by. */
  readonly sharing: boolean;
  readonly backoffMinMs: number;
  readonly backoffMaxMs: number;
  /** Who holds the slots; unlike that of any other process. */
  readonly instance: string;
}

/** Times of the link, ms unless the name says otherwise. */
export interface BrokerLinkTimes extends LinkTimes, LeaseTimes {
  /** A process without a slot asks for one so often, and one with a slot looks for those of dead processes. */
  readonly lookMs: number;
  /** The broker has brought everything that it kept when nothing came for so long. */
  readonly quietMs: number;
}

/** What a link needs. */
export interface BrokerLinkOptions {
  readonly settings: BrokerLinkSettings;
  readonly take: TakeMqttMessage;
  /** Of a message that is too large to be read. */
  readonly refused: RefusedUnread;
  readonly slots: MqttSlots;
  readonly clock: Clock;
  readonly log: Pick<Logger, 'info' | 'warn' | 'error'>;
  readonly metrics: LinkMetrics;
  /** Others than {@link LINK_TIMES}. */
  readonly times?: Partial<BrokerLinkTimes>;
}

/** The metrics of the link. */
export type LinkMetrics = Pick<
  Metrics,
  'mqttLinkConnected' | 'mqttLinkEnds' | 'mqttLinkMessages' | 'mqttLinkInFlight' | 'mqttLinkPuback' | 'beforeText'
>;

/** How the link stands. `standby`: another process is connected, and one is enough for this broker. */
export type LinkState =
  | { readonly kind: 'connected'; readonly slot: number }
  | { readonly kind: 'standby' }
  | { readonly kind: 'waiting'; readonly reason: LinkReason | null };

/** The link. */
export interface BrokerLink {
  /** Begins; the first connection may take its time. */
  start(): void;
  /** Takes no more, waits at most `withinMs` for what is at `take`, acknowledges it, and leaves the session to the broker. */
  stop(withinMs?: number): Promise<void>;
  /** True while messages come in here. */
  connected(): boolean;
  state(): LinkState;
}

/** What the messages in memory may take, all connections together. */
export const WINDOW_BYTES: number = 8 * 1024 * 1024;
/** The times that are used. */
export const LINK_TIMES: BrokerLinkTimes = {
  connectMs: 10_000,
  answerMs: 10_000,
  keepAliveSeconds: 30,
  askMs: 3000,
  closeMs: 1000,
  leaseMs: 6000,
  renewMs: 2000,
  lookMs: 1000,
  quietMs: 5000,
};
const STOP_MS = 10_000;
const LOG_EVERY_MS = 30_000;
const FORGETS =
  'mqtt: mosquitto before 2.0.12 forgets shared subscriptions when it restarts, so one process is connected and the others stand by; with 2.0.12 or newer they share';

/**
 * Builds a link; nothing happens before `start`.
 * @throws RangeError for a filter that names no device.
 */
export function createBrokerLink(options: BrokerLinkOptions): BrokerLink {
  const link = new SlottedLink(options);
  let run: Promise<void> | undefined;
  return {
    start: () => {
      run ??= link.run();
    },
    stop: async (withinMs = STOP_MS) => {
      await link.stop(withinMs);
      await run;
    },
    connected: () => link.state().kind === 'connected',
    state: () => link.state(),
  };
}

class SlottedLink {
  readonly #options: BrokerLinkOptions;
  readonly #times: BrokerLinkTimes;
  readonly #room = createRoom({ messages: WINDOW_MESSAGES, bytes: WINDOW_BYTES });
  readonly #version = createVersionChoice();
  readonly #laneOf: (topic: string) => string;
  readonly #stopping = new AbortController();
  readonly #lines: ReturnType<typeof throttled>;
  /** Connections that are there, to be closed in good order. */
  readonly #open = new Set<Connection>();
  #stopMs = STOP_MS;
  #installation = '';
  /** What the broker last said that it is. */
  #broker: string | null = null;
  #state: LinkState = { kind: 'waiting', reason: null };

  constructor(options: BrokerLinkOptions) {
    this.#options = options;
    this.#times = { ...LINK_TIMES, ...options.times };
    this.#lines = throttled(options.log, LOG_EVERY_MS, options.clock);
    const topics = options.settings.filters.map(deviceTopic);
    this.#laneOf = (topic) => {
      for (const { deviceOf } of topics) {
        const device = deviceOf(topic);
        if (device !== null) return device;
      }
      return topic;
    };
    const { mqttLinkConnected, mqttLinkInFlight, beforeText } = options.metrics;
    beforeText(() => {
      mqttLinkConnected.set({}, this.#state.kind === 'connected' ? 1 : 0);
      mqttLinkInFlight.set({}, this.#room.messages());
    });
  }

  state(): LinkState {
    return this.#state;
  }

  async stop(withinMs: number): Promise<void> {
    this.#stopMs = withinMs;
    this.#stopping.abort();
    await Promise.all([...this.#open].map((connection) => connection.close(withinMs, false)));
  }

  async run(): Promise<void> {
    while (!this.#stopping.signal.aborted) {
      const lease = await this.#claim();
      if (lease === null) await this.#pause(this.#times.lookMs, this.#stopping.signal);
      else await this.#serve(lease);
    }
  }

  /** A slot of our own; null: there is none for us now. */
  async #claim(): Promise<Lease | null> {
    const { slots, settings } = this.#options;
    try {
      this.#installation ||= await slots.installation();
      const slot = await slots.claim(settings.instance, this.#times.leaseMs);
      if (slot !== null) return holdLease(slots, slot, this.#times);
      this.#standBy();
    } catch (error) {
      this.#failed(linkError(error));
    }
    return null;
  }

  #standBy(): void {
    if (this.#state.kind !== 'standby')
      this.#options.log.info({}, 'mqtt: another process is connected to the broker; standing by');
    this.#state = { kind: 'standby' };
  }

  /** Works in a slot until it is lost, or no slot for us, or the link stops. */
  async #serve(lease: Lease): Promise<void> {
    const { backoffMinMs, backoffMaxMs } = this.#options.settings;
    const backoff = createBackoff(backoffMinMs, backoffMaxMs);
    const until = AbortSignal.any([this.#stopping.signal, lease.lost]);
    let gone = false;
    while (!until.aborted && !gone) {
      const began = this.#options.clock.monotonic();
      try {
        gone = await this.#connected(lease, until);
      } catch (error) {
        backoff.held(this.#options.clock.monotonic() - began);
        const failure = linkError(error);
        this.#failed(failure);
        if (failure.reason !== 'lease') await this.#pause(backoff.next(), until);
      }
    }
    await lease.end(gone);
  }

  /**
   * One connection in our own slot, from its beginning to its end. Rejects with why it ended; true: it is no slot to work in,
   * and its session was ended.
   */
  async #connected(lease: Lease, until: AbortSignal): Promise<boolean> {
    const connection = await this.#connect(lease, false, until);
    const shares = this.#sharing(lease, connection, until);
    if (lease.number !== 0 && !(await shares(true))) {
      await this.#drain(lease, connection, until);
      if (forgetsShares(this.#broker)) {
        this.#standBy();
        await this.#beSeen(lease, until);
      }
      return true;
    }
    const adopting = new AbortController();
    let adoption: Promise<void> | undefined;
    try {
      let several = lease.several();
      await this.#subscribe(lease, connection, several, await shares(several));
      this.#state = { kind: 'connected', slot: lease.number };
      this.#options.log.info(this.#about(lease, connection), 'mqtt: connected to the broker');
      adoption = this.#adopt(AbortSignal.any([until, adopting.signal]));
      for (;;) {
        const error = await Promise.race([
          connection.ended,
          lease.several() === several ? lease.changed() : Promise.resolve(),
        ]);
        if (error !== undefined) throw error;
        several = lease.several();
        await this.#subscribe(lease, connection, several, await shares(several));
      }
    } catch (error) {
      connection.destroy(linkError(error));
      throw error;
    } finally {
      this.#state = { kind: 'waiting', reason: null };
      adopting.abort();
      await adoption;
    }
  }

  /**
   * Keeps the slot for long enough that the holder of slot 0 sees that several work, and asks the broker too: then there is no
   * slot but its own. Ends once there is no other: slot 0 is free.
   */
  async #beSeen(lease: Lease, until: AbortSignal): Promise<void> {
    if (!lease.several()) return;
    const alone = new AbortController();
    void lease.changed().then(() => alone.abort());
    await this.#pause(2 * this.#times.renewMs, AbortSignal.any([until, alone.signal]));
  }

  /**
   * Tells whether several may share the messages of this connection's broker. It is asked what it is once it matters: when
   * several work, or when it was one that forgets; without an answer it is what it was last.
   */
  #sharing(lease: Lease, connection: Connection, until: AbortSignal): (several: boolean) => Promise<boolean> {
    const { settings } = this.#options;
    let asked = false;
    return async (several) => {
      if (!connection.shares || !settings.sharing) return false;
      if (!asked && (several || forgetsShares(this.#broker))) {
        asked = true;
        const inquiry = { target: settings, clientId: `${this.#clientId(lease)}-asks`, withinMs: this.#times.askMs };
        this.#learn(await askVersion({ ...inquiry, signal: until }));
      }
      return !forgetsShares(this.#broker);
    };
  }

  #learn(version: string | null): void {
    if (version === null || version === this.#broker) return;
    this.#broker = version;
    if (forgetsShares(version)) this.#options.log.warn({ broker: version }, FORGETS);
  }

  #about(lease: Lease, { version, sessionPresent: resumed, keepsSeconds }: Connection): object {
    const { host, port } = this.#options.settings;
    const session = { client: this.#clientId(lease), resumed, keepsSeconds, filters: lease.filters() };
    return { host, port, version: version === 5 ? '5' : '3.1.1', ...session };
  }

  /** Subscribes to what is wanted now, and to nothing that was wanted before. */
  async #subscribe(lease: Lease, connection: Connection, several: boolean, shared: boolean): Promise<void> {
    const plain = [...new Set(this.#options.settings.filters)];
    const share = (filter: string): string => `$share/tocsin-${this.#installation}/${filter}`;
    const wanted = shared && several ? plain.map(share) : plain;
    const stale = lease.filters().filter((filter) => !wanted.includes(filter));
    // Written down before, so that whoever adopts the session knows all of it.
    await lease.note({ filters: [...wanted, ...stale], shared });
    await connection.subscribe(wanted);
    if (stale.length === 0) return;
    await connection.unsubscribe(stale);
    await lease.note({ filters: wanted, shared });
  }

  /** Looks for slots of dead processes and empties them, one at a time. Never rejects. */
  async #adopt(until: AbortSignal): Promise<void> {
    const { slots, settings } = this.#options;
    const { backoffMinMs, backoffMaxMs } = settings;
    const backoff = createBackoff(backoffMinMs, backoffMaxMs);
    while (!until.aborted) {
      await this.#pause(this.#times.lookMs, until);
      if (until.aborted) return;
      const slot = await slots.adopt(settings.instance, this.#times.leaseMs).catch(() => null);
      if (slot !== null && !(await this.#empty(slot, until))) await this.#pause(backoff.next(), until);
    }
  }

  /** Takes what the session of another one's slot keeps, and ends it; false: not now. */
  async #empty(slot: MqttSlot, until: AbortSignal): Promise<boolean> {
    const lease = holdLease(this.#options.slots, slot, this.#times);
    const both = AbortSignal.any([until, lease.lost]);
    let ended = false;
    try {
      const connection = await this.#connect(lease, false, both);
      await this.#drain(lease, connection, both);
      ended = true;
    } catch (error) {
      this.#failed(linkError(error), this.#state);
    }
    await lease.end(ended);
    return ended;
  }

  /**
   * Nothing new for this session; what it keeps is taken; then it ends. That all has come is seen by silence: nothing
   * unacknowledged, and nothing between a ping and its answer after a quiet time.
   */
  async #drain(lease: Lease, connection: Connection, until: AbortSignal): Promise<void> {
    const before = connection.arrivals();
    if (connection.sessionPresent) {
      const filters = lease.filters();
      if (filters.length > 0) await connection.unsubscribe(filters);
      for (let seen = -1; seen !== connection.arrivals() || connection.unacknowledged() > 0; ) {
        seen = connection.arrivals();
        await this.#pause(this.#times.quietMs, until);
        if (until.aborted) {
          if (!this.#stopping.signal.aborted) connection.destroy(new LinkError('closed', 'our own connection ended'));
          await this.#close(connection, false);
          throw await connection.ended;
        }
        await connection.ping();
      }
    }
    await this.#close(connection, true);
    const { reason, message } = await connection.ended;
    if (reason !== 'stopped') throw new LinkError(reason, message);
    if (connection.sessionPresent && connection.version === 4) {
      // In 3.1.1 only a clean session ends one.
      await this.#close(await this.#connect(lease, true, until), true);
    }
    if (!connection.sessionPresent) return;
    const fields = { client: this.#clientId(lease), messages: connection.arrivals() - before };
    this.#options.log.info(fields, 'mqtt: took what the broker kept for another process, and ended its session');
  }

  #clientId({ number }: Pick<Lease, 'number'>): string {
    return `tocsin-${this.#installation}-${number}`;
  }

  /** Connects in a slot; the connection is gone from `#open` when it has ended. */
  async #connect(lease: Lease, clean: boolean, until: AbortSignal): Promise<Connection> {
    const { settings, take, refused, clock, metrics } = this.#options;
    // What an ended connection left at take comes again on the next one: not before there is room for it.
    await new Promise<void>((resolve) => {
      const go = (): void => {
        until.removeEventListener('abort', go);
        resolve();
      };
      until.addEventListener('abort', go);
      if (until.aborted) go();
      else this.#room.whenRoom(go);
    });
    await lease.sure();
    const version = this.#version.next(clock.monotonic());
    const report = (outcome: VersionOutcome): void => this.#version.report(version, outcome, clock.monotonic());
    let connection: Connection;
    try {
      connection = await openConnection({
        target: settings,
        clientId: this.#clientId(lease),
        version,
        clean,
        times: this.#times,
        room: this.#room,
        take,
        laneOf: this.#laneOf,
        monotonic: clock.monotonic,
        signal: until,
        arrived: (kind, topic) => {
          metrics.mqttLinkMessages.add({ kind });
          if (kind === 'oversize') refused('body-too-large', this.#laneOf(topic));
        },
        acknowledged: (waitedMs) => metrics.mqttLinkPuback.observe({}, waitedMs / 1000),
      });
    } catch (error) {
      const { reason } = linkError(error);
      report(reason === 'version' ? 'refused' : reason === 'unanswered' ? 'closed' : 'other');
      throw error;
    }
    report('spoken');
    this.#open.add(connection);
    const lost = (): void =>
      connection.destroy(new LinkError('lease', `slot ${lease.number} is another process's now`));
    lease.lost.addEventListener('abort', lost);
    void connection.ended.then(() => {
      lease.lost.removeEventListener('abort', lost);
      this.#open.delete(connection);
    });
    // The link was stopped, or the slot lost, in this very moment.
    if (lease.lost.aborted) lost();
    else if (until.aborted) await this.#close(connection, false);
    return connection;
  }

  async #close(connection: Connection, endSession: boolean): Promise<void> {
    await connection.close(this.#stopMs, endSession);
  }

  #failed({ reason, message }: LinkError, state: LinkState = { kind: 'waiting', reason }): void {
    this.#state = state;
    if (this.#stopping.signal.aborted) return;
    this.#options.metrics.mqttLinkEnds.add({ reason });
    const { host, port } = this.#options.settings;
    this.#lines.warn(reason, { host, port, detail: message }, 'mqtt: no connection to the broker');
  }

  /** Waits, unless it is woken by the signal. */
  async #pause(ms: number, until: AbortSignal): Promise<void> {
    await sleep(ms, undefined, { signal: until }).catch(() => undefined);
  }
}
