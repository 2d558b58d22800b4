/**
 * Raises alerts in a process of its own as a worker does: findings go through the ledger into the channel in one transaction
 * for all that wait, and after the commit over the bus (Redis), beside a running server on the same store.
 */
import type { AlertFinding } from '@tocsin/protocol/finding';
import { createLedger } from '@tocsin/server/alerts/ledger';
import { createRedisBus } from '@tocsin/server/bus/redis/bus';
import { deriveKeys } from '@tocsin/server/identity/secrets';
import { systemClock } from '@tocsin/server/lib/clock';
import { createIdFactory } from '@tocsin/server/lib/ulid';
import { silentLogger } from '@tocsin/server/ops/logging';
import { createChannelPublisher } from '@tocsin/server/realtime/channel';
import { openStore } from '@tocsin/server/store/open';
import { createAlertStore } from '@tocsin/server/store/postgres/alerts';
import { createChannelStore } from '@tocsin/server/store/postgres/channels';
import { findingDue, newSigner } from './alert-text.ts';
import { serveParent } from './helper.ts';

/** Where the server's store and bus are. */
export interface SourcePlace {
  readonly dataDir: string;
  readonly clusterSecret: string;
  readonly redisUrl: string;
}

/** What it can be asked. */
export type SourceAsk =
  | { readonly kind: 'open'; readonly place: SourcePlace }
  /** Answers the offset, after commit and publication. */
  | { readonly kind: 'raise'; readonly due: number };

interface Waiting {
  readonly finding: AlertFinding;
  resolve(offset: number): void;
  reject(error: unknown): void;
}

type Raise = (due: number) => Promise<number>;
let raise: Raise = () => Promise.reject(new Error('not open'));

async function open({ dataDir, clusterSecret, redisUrl }: SourcePlace): Promise<void> {
  const store = await openStore({ dataDir, log: silentLogger, as: 'command' });
  const bus = createRedisBus({
    place: { kind: 'single', url: redisUrl },
    key: deriveKeys(clusterSecret).busMac,
    clock: systemClock,
    instance: `bench-${process.pid}`,
    onListenerError: () => undefined,
    onDropped: () => undefined,
    onEvent: () => undefined,
  });
  const signer = newSigner();
  const publisher = createChannelPublisher({ pubsub: bus.pubsub });
  const ledger = createLedger({
    db: store.db,
    alerts: createAlertStore(store.db),
    channels: createChannelStore(store.db),
    signer: () => signer,
    ids: createIdFactory(),
    publish: (messages) => publisher.publish(messages),
    events: { acted: () => undefined, publishFailed: () => undefined },
  });
  let waiting: Waiting[] = [];
  let busy = false;
  const work = async (): Promise<void> => {
    if (busy) return;
    busy = true;
    while (waiting.length > 0) {
      const batch = waiting;
      waiting = [];
      try {
        const findings = batch.map(({ finding }) => finding);
        const raised = await store.db.transaction((tx) => ledger.raise(tx, findings, Date.now()));
        await publisher.publish(raised);
        batch.forEach(({ resolve }, index) => resolve(raised[index]?.offset ?? 0));
      } catch (error) {
        for (const { reject } of batch) reject(error);
      }
    }
    busy = false;
  };
  raise = (due) =>
    new Promise((resolve, reject) => {
      waiting.push({ finding: findingDue(due), resolve, reject });
      void work();
    });
}

serveParent<SourceAsk>((ask) => (ask.kind === 'open' ? open(ask.place) : raise(ask.due)));
