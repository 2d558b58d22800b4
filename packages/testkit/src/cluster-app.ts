/**
 * A cluster in one test process: several apps on one database and one bus, each with its own port and roles.
 *
 * Quick, and every part can be looked into; what needs a process to kill or freeze is in `cluster-processes.ts`.
 */
import { randomBytes } from 'node:crypto';
import type { App } from '@tocsin/server/app/app';
import { openTestDatabase } from './database.ts';
import type { Engine } from './engines.ts';
import { redisSettings, type RedisCluster, type RedisSentinel, type RedisServer } from './redis-server.ts';
import { CREDENTIALS, signIn } from './server-process.ts';
import { startAppOn } from './test-app.ts';

/** A part that an app of a cluster plays. */
export type Role = 'gateway' | 'worker';

/** A running cluster. */
export interface TestCluster {
  readonly gateways: readonly App[];
  readonly workers: readonly App[];
  /** Access token of the first operator, role admin; every gateway takes it. */
  readonly token: string;
  /** An API key with every scope. */
  readonly apiKey: string;
  /** `postgres://…` of the database. */
  readonly databaseUrl: string;
  /** One more app; resolves once it is ready. */
  add(role: Role, environment?: Readonly<Record<string, string>>): Promise<App>;
  /** Ends all, those that were added too; the Redis stays. */
  stop(): Promise<void>;
}

/** What a cluster consists of. */
export interface TestClusterOptions {
  readonly gateways: number;
  readonly workers: number;
  /** The bus; it belongs to the caller. */
  readonly redis: RedisServer | RedisCluster | RedisSentinel;
  /** Settings for all. */
  readonly environment?: Readonly<Record<string, string>>;
  readonly engine?: Engine;
}

/** Starts it; resolves once every app is ready. */
export async function startTestCluster(options: TestClusterOptions): Promise<TestCluster> {
  const database = await openTestDatabase(options.engine ?? {});
  const common = {
    CLUSTER_SECRET: randomBytes(32).toString('base64url'),
    // The issuer of tokens: one for all, else a gateway refuses the tokens of another.
    PUBLIC_URL: 'http://tocsin.example',
    ...redisSettings(options.redis),
    ...options.environment,
  };
  const running: App[] = [];
  const add = async (role: Role, environment: Readonly<Record<string, string>> = {}): Promise<App> => {
    const app = await startAppOn(database.url, { ...common, ...environment, ROLES: role });
    running.push(app);
    await app.ready;
    return app;
  };
  const stop = async (): Promise<void> => {
    await Promise.all(running.splice(0).map((app) => app.stop()));
    await database.close();
  };
  try {
    const gateways = await several(options.gateways, () => add('gateway'));
    const workers = await several(options.workers, () => add('worker'));
    const first = gateways[0];
    if (first === undefined) throw new Error('a cluster needs a gateway');
    const token = await signIn(first.address);
    return { gateways, workers, token, apiKey: CREDENTIALS.apiKey, databaseUrl: database.url, add, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

async function several<Item>(count: number, make: () => Promise<Item>): Promise<Item[]> {
  return Promise.all(Array.from({ length: count }, make));
}
