import { engines } from '@tocsin/testkit/engines';
import { openTestDatabase, type TestDatabase } from '@tocsin/testkit/database';
import { afterEach, describe } from 'vitest';
import { createLog } from './log.ts';
import { logContract } from './log.suite.ts';

describe.each(engines)('the log in PostgreSQL (%s)', (engine) => {
  let database: TestDatabase | undefined;
  afterEach(() => database?.close());
  logContract(async () => {
    database = await openTestDatabase(engine);
    return { log: createLog(database.db), db: database.db };
  });
});
