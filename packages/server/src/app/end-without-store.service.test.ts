import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describeWith } from '@tocsin/testkit/needs';
import { startPostgres } from '@tocsin/testkit/postgres-server';
import { freePort, startServer } from '@tocsin/testkit/server-process';
import { expect, test } from 'vitest';

describeWith(['postgres15-postgis'], 'the end of a server whose database', () => {
  test.each(['is frozen', 'was killed'] as const)('%s is graceful, and in time', async (how) => {
    const postgres = await startPostgres();
    const folder = await mkdtemp(join(tmpdir(), 'tocsin-end-'));
    const environment = { DATABASE_URL: postgres.url, CLUSTER_SECRET: 'a secret of thirty-two characters, or more' };
    const server = startServer(folder, await freePort(), environment);
    try {
      await server.ready();
      if (how === 'is frozen') postgres.freeze();
      else await postgres.kill();
      server.child.kill('SIGTERM');
      expect(await server.exited, server.output()).toBe(0);
    } finally {
      server.child.kill('SIGKILL');
      if (how === 'is frozen') postgres.thaw();
      await postgres.stop();
      await rm(folder, { recursive: true, force: true });
    }
  });
});
