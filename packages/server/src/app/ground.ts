/**
 * What everything stands on: store, bus, identity, registry, metrics, load. Opened in that order, closed in the other;
 * when one cannot be opened, those before it are closed again.
 */
import { randomUUID } from 'node:crypto';
import { availableParallelism } from 'node:os';
import type { Bus } from '../bus/ports/bus.ts';
import type { Identity } from '../identity/identity.ts';
import type { IdentityEvent } from '../identity/events.ts';
import { createVerifier, type Verifier } from '../ingest/verifier.ts';
import { type Clock, systemClock } from '../lib/clock.ts';
import { createEnds, type Ends } from '../lib/ends.ts';
import { createLoadMonitor, type LoadMonitor } from '../ops/load.ts';
import type { Logger } from '../ops/logging.ts';
import { createMetrics, type Metrics } from '../ops/metrics.ts';
import { throttled } from '../ops/throttled-log.ts';
import { createRegistry, type Registry } from '../registry/registry.ts';
import { openStore, type Store } from '../store/open.ts';
import type { Log } from '../store/ports/log.ts';
import { createDeviceStore } from '../store/postgres/devices.ts';
import { createHostStore } from '../store/postgres/hosts.ts';
import { createZoneStore } from '../store/postgres/zones.ts';
import { join, type Membership } from './membership.ts';
import { openBus } from './open-bus.ts';
import { openLog } from './open-log.ts';
import { openIdentity } from './open-identity.ts';
import { createStoreClock } from './store-clock.ts';
import type { Settings } from './settings.ts';
import { VERSION } from './version.ts';

/**
 * Threads that check signatures: one core is the event loop's and PostgreSQL's. Run from its sources (tests), the server
 * has no built thread to start and uses the thread pool.
 */
const VERIFY_THREADS = import.meta.url.endsWith('.ts') ? 0 : Math.max(1, availableParallelism() - 1);

/** Rows of hosts that nobody registered, for each device that may be live at once: hosts come and go. */
const HOSTS_FOR_EACH_LIVE_ONE = 10;

/** Everything that stands. */
export interface Ground {
  /** The name of this process in leases; a new one at every start. */
  readonly instance: string;
  readonly clock: Clock;
  readonly log: Logger;
  readonly store: Store;
  readonly bus: Bus;
  /** The log of records. */
  readonly records: Log;
  /** False while the log's own Redis is away. */
  readonly logAnswers: () => boolean;
  readonly identity: Identity;
  readonly registry: Registry;
  readonly metrics: Metrics;
  readonly load: LoadMonitor;
  readonly verifier: Verifier;
  /** This process among the workers of the installation. */
  readonly membership: Pick<Membership, 'standing' | 'working'>;
  close(): Promise<void>;
}

/** What {@link openGround} needs beside the settings. */
export interface GroundOptions {
  readonly log: Logger;
  readonly clusterSecret: string;
  /** How the outside calls us. */
  readonly publicUrl: string;
  /** This process must end: `why` in a line. */
  readonly onLost: (why: string) => void;
  /** Ends the wait for a database that is away. */
  readonly signal?: AbortSignal | undefined;
}

/** Opens it all. Rejects with the CodedErrors of its parts, `second-process`, `other-bus`. */
export async function openGround(settings: Settings, options: GroundOptions): Promise<Ground> {
  const { log } = options;
  const instance = randomUUID();
  const open = createEnds();
  try {
    const { dataDir, databaseUrl } = settings;
    const store = await openStore({ databaseUrl: databaseUrl ?? undefined, dataDir, log, signal: options.signal });
    open.add(() => store.close());
    const clock = store.engine === 'external' ? await openClock(store, log, open) : systemClock;
    const metrics = createMetrics(VERSION);
    open.add(() => metrics.close());
    const bus = openBus(settings, { clusterSecret: options.clusterSecret, clock, instance, log, metrics });
    open.add(() => bus.close());
    const opened = await openLog(settings, { db: store.db, clock, log, metrics, onChanged: options.onLost });
    open.add(() => opened.close());
    const membership = store.engine === 'external' ? await joinOthers(options, { store, bus, instance, open }) : ALONE;
    await opened.confirm();
    const load = createLoadMonitor();
    open.add(() => load.stop());
    const verifier = createVerifier({
      threads: VERIFY_THREADS,
      onThreadLost: (error) =>
        log.error({ err: error }, 'a thread that checks signatures ended; another takes its place'),
    });
    open.add(() => verifier.close());
    const identity = await openIdentity(settings, {
      db: store.db,
      front: store.front,
      bus,
      clock,
      clusterSecret: options.clusterSecret,
      publicUrl: options.publicUrl,
      onEvent: createTeller(log, metrics),
    });
    open.add(() => identity.close());
    const { db } = store;
    const stores = { zones: createZoneStore(db), devices: createDeviceStore(db), hosts: createHostStore(db) };
    const mostHosts = HOSTS_FOR_EACH_LIVE_ONE * settings.maxDevices;
    const registry = await createRegistry({ stores, bus, clock, log, mostHosts });
    open.add(() => registry.close());
    return {
      instance,
      clock,
      log,
      store,
      bus,
      records: opened.records,
      logAnswers: opened.answers,
      identity,
      registry,
      metrics,
      load,
      verifier,
      membership,
      close: open.endAll,
    };
  } catch (error) {
    await open.endAll().catch(() => undefined);
    throw error;
  }
}

/** A private store has one process. */
const ALONE: Ground['membership'] = {
  standing: () => ({ rank: 0, workers: 1 }),
  working: () => Promise.resolve(),
};

async function openClock({ db }: Store, log: Logger, open: Ends): Promise<Clock> {
  const clock = createStoreClock(db, systemClock, (correctionMs) =>
    log.warn({ correctionMs }, 'the clock of this machine and that of the store differ; the store’s counts'),
  );
  open.add(() => clock.stop());
  await clock.compare();
  return clock;
}

async function joinOthers(
  { log, onLost }: GroundOptions,
  { store, bus, instance, open }: { store: Store; bus: Bus; instance: string; open: Ends },
): Promise<Membership> {
  const strange = throttled(log, 60_000, systemClock);
  const membership = await join({
    db: store.db,
    bus,
    instance,
    onLost: () => onLost('a process without a shared bus has taken over the database'),
    onStrangers: (instances) =>
      void strange.warn('strangers', { instances }, 'these processes of the database are not on this bus'),
  });
  open.add(() => membership.leave());
  return membership;
}

/** Failures that go on (the bus or the store is away) are a line a second for each part, not one for each change. */
function createTeller(log: Logger, metrics: Metrics): (event: IdentityEvent) => void {
  const failures = throttled(log, 1000);
  return (event) => {
    if (event.kind === 'refresh') metrics.refresh.add({ result: event.result });
    if (event.kind === 'background-failed')
      failures.warn(`identity-${event.part}`, { err: event.error }, 'identity works on without news');
    else log.info({ ...event }, 'identity');
  };
}
