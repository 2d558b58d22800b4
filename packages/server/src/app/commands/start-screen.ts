/** What a person at a terminal sees once the server is up. Pure. */
import type { Settings } from '../settings.ts';
import { VERSION } from '../version.ts';

/** The screen for a server that listens at `address` (an origin); `note`: what to know about the store, `demo`: about a demo. */
export function startScreen(
  settings: Settings,
  address: string,
  note: string | undefined,
  demo: string | undefined,
): string {
  const base = settings.publicUrl ?? address;
  const database =
    settings.databaseUrl === null ? 'private PostgreSQL' : 'first-start secrets; the database is DATABASE_URL';
  const email = settings.adminEmail ?? 'the e-mail of the first start';
  const rows: readonly (readonly [string, string])[] = [
    ['Server', base === address ? base : `${base}  (listens on ${address})`],
    ['API', `${base}/docs`],
    ['Health', `${base}/health/ready`],
    ['Data', `${settings.dataDir}  (${database})`],
    ...(note === undefined ? [] : [['', note] as const]),
    ['Sign in', `POST ${base}/v1/auth/login as ${email}`],
    ['', 'no password any more? `npx tocsin users create --email you@example.org --role admin`'],
    ...(demo === undefined ? [] : [['Demo', demo] as const]),
    ['Stop', 'Ctrl-C'],
  ];
  const lines = rows.map(([name, text]) => `  ${name.padEnd(8)} ${text}`);
  return `\n  Tocsin ${VERSION} is ready.\n\n${lines.join('\n')}\n\n`;
}
