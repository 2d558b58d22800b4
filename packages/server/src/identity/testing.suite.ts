/** What the service tests of identity share: an identity on a fresh database, with a clock that they move. */
import { type TestDatabase, openTestDatabase } from '@tocsin/testkit/database';
import type { Engine } from '@tocsin/testkit/engines';
import { createMemoryBus } from '../bus/memory/bus.ts';
import type { Bus } from '../bus/ports/bus.ts';
import type { Clock } from '../lib/clock.ts';
import type { Database } from '../store/ports/database.ts';
import type { IdentityStores } from '../store/ports/identity.ts';
import { createApiKeyStore } from '../store/postgres/api-keys.ts';
import { createCertificateStore } from '../store/postgres/certificate-holders.ts';
import { createSessionStore } from '../store/postgres/sessions.ts';
import { createSigningKeyStore } from '../store/postgres/signing-keys.ts';
import { createTicketStore } from '../store/postgres/tickets.ts';
import { createUserStore } from '../store/postgres/users.ts';
import type { IdentityEvent } from './events.ts';
import { createIdentity, type Identity, type IdentitySettings } from './identity.ts';

export const SECRET = 'a cluster secret of the tests, long enough';
export const PASSWORD = 'correct horse battery staple';

export interface MovableClock extends Clock {
  advance(ms: number): void;
}

export function movableClock(start = 1_700_000_000_000): MovableClock {
  let now = start;
  return {
    now: () => now,
    monotonic: () => now,
    advance: (ms) => {
      now += ms;
    },
  };
}

export function storesOf(db: Database): IdentityStores {
  return {
    users: createUserStore(db),
    sessions: createSessionStore(db),
    tickets: createTicketStore(db),
    apiKeys: createApiKeyStore(db),
    signingKeys: createSigningKeyStore(db),
    certificates: createCertificateStore(db),
  };
}

export interface Bench {
  readonly database: TestDatabase;
  readonly stores: IdentityStores;
  readonly clock: MovableClock;
  readonly bus: Bus;
  readonly events: IdentityEvent[];
  readonly identity: Identity;
  /** One more process on the same store; on the same bus unless told otherwise. */
  another(options?: { readonly bus?: Bus; readonly settings?: Partial<IdentitySettings> }): Promise<Identity>;
  close(): Promise<void>;
}

export async function openBench(settings: Partial<IdentitySettings> = {}, engine?: Engine): Promise<Bench> {
  const database = await openTestDatabase(engine ?? {});
  const { db } = database;
  const stores = storesOf(db);
  const clock = movableClock();
  const bus = createMemoryBus({ clock });
  const events: IdentityEvent[] = [];
  const opened: Identity[] = [];
  const another: Bench['another'] = async (options = {}) => {
    const identity = await createIdentity({
      db,
      stores,
      bus: options.bus ?? bus,
      clock,
      onEvent: (event) => events.push(event),
      settings: {
        clusterSecret: SECRET,
        tokenAlgorithm: 'ES256',
        issuer: 'http://tocsin.test',
        audience: 'tocsin',
        skewSeconds: 30,
        accessTokenMinutes: 15,
        ...settings,
        ...options.settings,
      },
    });
    opened.push(identity);
    return identity;
  };
  return {
    database,
    stores,
    clock,
    bus,
    events,
    identity: await another(),
    another,
    async close() {
      for (const identity of opened) await identity.close();
      await bus.close();
      await database.close();
    },
  };
}

/** The code of the refusal that `work` ends in; `accepted` when it does not. */
export async function codeOf(work: Promise<unknown>): Promise<string> {
  try {
    await work;
    return 'accepted';
  } catch (error) {
    const { refusal, code } = error as { refusal?: { code: string }; code?: string };
    return refusal?.code ?? code ?? String(error);
  }
}
