/**
 * The store and identity for the time of one command, beside a running server or alone. Progress and warnings go to
 * stderr, so that stdout is the command's answer only.
 */
import { createMemoryBus } from '../../bus/memory/bus.ts';
import type { Identity } from '../../identity/identity.ts';
import { systemClock } from '../../lib/clock.ts';
import { createLogger } from '../../ops/logging.ts';
import { openStore, type Store } from '../../store/open.ts';
import { ensureClusterSecret } from '../first-start.ts';
import { openIdentity } from '../open-identity.ts';
import { outsideAddress } from '../settings-checks.ts';
import type { Settings } from '../settings.ts';
import { type CommandContext, requireSettings } from './command.ts';

const EXIT_SIGNALS = { SIGINT: 130, SIGTERM: 143 } as const;

/** Opens the store (migrated) for `work`, and closes it whatever happens. */
export async function withStore<Result>(
  context: CommandContext,
  work: (store: Store, settings: Settings) => Promise<Result>,
): Promise<Result> {
  const settings = requireSettings(context);
  const log = createLogger({
    level: 'warn',
    pretty: context.terminal.readable,
    destination: { write: context.terminal.err },
  });
  const interrupted = Object.entries(EXIT_SIGNALS).map(([signal, code]) => {
    // `exit` runs the hook that ends a private PostgreSQL of ours.
    const listener = (): void => process.exit(code);
    context.events.on(signal, listener);
    return () => context.events.off(signal, listener);
  });
  try {
    const store = await openStore({
      databaseUrl: settings.databaseUrl ?? undefined,
      dataDir: settings.dataDir,
      log,
      as: 'command',
      maxConnections: 2,
    });
    try {
      return await work(store, settings);
    } finally {
      await store.close();
    }
  } finally {
    for (const restore of interrupted) restore();
  }
}

/** Opens identity over the store for `work`. Other processes learn of changes from the store, within 10 s. */
export function withIdentity<Result>(
  context: CommandContext,
  work: (identity: Identity) => Promise<Result>,
): Promise<Result> {
  return withStore(context, async ({ db }, settings) => {
    const bus = createMemoryBus({ clock: systemClock });
    try {
      const identity = await openIdentity(settings, {
        db,
        front: db,
        bus,
        clock: systemClock,
        clusterSecret: await ensureClusterSecret(settings),
        publicUrl: outsideAddress(settings, settings.port).publicUrl,
        onEvent: () => undefined,
      });
      try {
        return await work(identity);
      } finally {
        await identity.close();
      }
    } finally {
      await bus.close();
    }
  });
}
