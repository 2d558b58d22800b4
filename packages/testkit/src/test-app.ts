/** A whole server in this process, on a fresh database, listening on a free port. */
import { startApp, type App } from '@tocsin/server/app/app';
import { readSettings } from '@tocsin/server/app/settings';
import { silentLogger } from '@tocsin/server/ops/logging';
import { randomBytes } from 'node:crypto';
import { tmpdir } from 'node:os';
import { openTestDatabase } from './database.ts';
import type { Engine } from './engines.ts';
import { CREDENTIALS, signIn } from './server-process.ts';

/** A running app and what a test needs to talk to it. */
export interface TestApp {
  readonly app: App;
  readonly base: string;
  /** Access token of the first operator, role admin. */
  readonly token: string;
  /** An API key with every scope. */
  readonly apiKey: string;
  /** `postgres://…` of its database. */
  readonly databaseUrl: string;
  stop(): Promise<void>;
}

/** Starts it; `environment` sets settings as a user would. */
export async function startTestApp(
  environment: Readonly<Record<string, string>> = {},
  engine?: Engine,
): Promise<TestApp> {
  const database = await openTestDatabase(engine ?? {});
  const app = await startAppOn(database.url, environment);
  await app.ready;
  return {
    app,
    base: app.address,
    token: await signIn(app.address),
    apiKey: CREDENTIALS.apiKey,
    databaseUrl: database.url,
    stop: async () => {
      await app.stop();
      await database.close();
    },
  };
}

/** Starts an app on a database that others may share, with the settings of tests; it may not be ready yet. */
export async function startAppOn(databaseUrl: string, environment: Readonly<Record<string, string>>): Promise<App> {
  const outcome = readSettings(
    {
      DATABASE_URL: databaseUrl,
      CLUSTER_SECRET: randomBytes(32).toString('base64url'),
      PORT: '0',
      MQTT_EMBEDDED_PORT: 'off',
      GRPC_PORT: 'off',
      ADMIN_EMAIL: CREDENTIALS.email,
      ADMIN_PASSWORD: CREDENTIALS.password,
      API_KEY: CREDENTIALS.apiKey,
      DRAIN_SECONDS: '2',
      ...environment,
    },
    tmpdir(),
  );
  if ('mistakes' in outcome) throw new Error(outcome.mistakes.join('\n'));
  return startApp(outcome.settings, { log: silentLogger });
}
