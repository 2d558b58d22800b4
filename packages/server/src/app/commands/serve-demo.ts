/** `--demo` of `tocsin serve`: its arguments, where it is refused, what the start screen says of it. */
import type { Logger } from '../../ops/logging.ts';
import { DEMO_EVERY, DEMO_FIRST_SECONDS, startDemo } from '../demo.ts';
import type { Settings } from '../settings.ts';
import type { CredentialBook } from '../temporary-access.ts';
import { readArguments } from './arguments.ts';
import { SettingsError, UsageError } from './exit-codes.ts';
import { ownOrigin } from './simulate-access.ts';

/** How a demo is started, and what the start screen says of it. */
export interface DemoOffer {
  readonly screen: string;
  /** Starts it beside a server that listens at `address`. */
  start(app: { readonly address: string; readonly credentials: CredentialBook }): Promise<{ stop(): Promise<void> }>;
}

/** Seconds from one earthquake of the demo to the next; null without `--demo`. */
export function readDemo(args: readonly string[]): number | null {
  const read = readArguments(args, { demo: { type: 'boolean' }, 'demo-every': { type: 'string' } });
  const every = read.text('demo-every');
  if (!read.flag('demo')) {
    if (every !== undefined) throw new UsageError('--demo-every needs --demo');
    return null;
  }
  const seconds = every === undefined ? DEMO_EVERY.seconds : /^\d{1,6}$/.test(every) ? Number(every) : Number.NaN;
  if (Number.isNaN(seconds) || seconds < DEMO_EVERY.least || seconds > DEMO_EVERY.most)
    throw new UsageError(`--demo-every must be whole seconds from ${DEMO_EVERY.least} to ${DEMO_EVERY.most}`);
  return seconds;
}

/** The demo for these settings. Throws a SettingsError where a demo has no place. */
export function offerDemo(settings: Settings, log: Logger, everySeconds: number): DemoOffer {
  if (settings.production) throw new SettingsError(['NODE_ENV must not be production with --demo']);
  if (!settings.roles.includes('gateway')) throw new SettingsError(['ROLES must include gateway with --demo']);
  if (settings.databaseUrl !== null)
    log.warn('demo: simulated devices, their readings and alerts go into the database of DATABASE_URL');
  return {
    screen:
      `simulated stations and hosts, all marked as exercise; an earthquake every ${everySeconds} s, ` +
      `the first in ${DEMO_FIRST_SECONDS} s: GET /v1/alerts`,
    start: ({ address, credentials }) => {
      const origin = ownOrigin({ ...settings, port: Number(new URL(address).port || settings.port) });
      return startDemo({ origin, dataDir: settings.dataDir, credentials, log, everySeconds });
    },
  };
}
