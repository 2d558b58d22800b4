/** The contracts of cells, limiter and presence on every kind of Redis: alone, Cluster, Sentinel, TLS. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { describeWith } from '@tocsin/testkit/needs';
import { startRedis, startRedisCluster, startRedisSentinel } from '@tocsin/testkit/redis-server';
import { Cluster } from 'ioredis';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { cellsSuite } from '../cells.suite.ts';
import { limiterSuite } from '../limiter.suite.ts';
import { presenceSuite } from '../presence.suite.ts';
import { createRedisCells } from './cells.ts';
import { createRedisLimiter } from './limiter.ts';
import { type RedisLink, openRedisLink } from './link.ts';
import type { RedisPlace } from './place.ts';
import { type RedisPresence, createRedisPresence } from './presence.ts';

interface Place {
  readonly place: RedisPlace;
  readonly ca?: string;
  stop(): Promise<void>;
}

async function alone(): Promise<Place> {
  const server = await startRedis({ args: ['--requirepass', 'p@ss word/:'] });
  return { place: { kind: 'single', url: `${server.url}/3` }, stop: () => server.stop() };
}
async function cluster(): Promise<Place> {
  const { addresses, stop } = await startRedisCluster();
  return { place: { kind: 'cluster', nodes: addresses }, stop };
}
async function sentinel(): Promise<Place> {
  const { addresses, name, stop } = await startRedisSentinel();
  return { place: { kind: 'sentinel', sentinels: addresses, name }, stop };
}
async function overTls(): Promise<Place> {
  const folder = mkdtempSync(join(tmpdir(), 'tocsin-redis-tls-'));
  const [cert, key] = [join(folder, 'cert.pem'), join(folder, 'key.pem')];
  const made = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-keyout', key, '-out', cert];
  const named = ['-days', '2', '-subj', '/CN=redis', '-addext', 'subjectAltName=IP:127.0.0.1'];
  execFileSync('openssl', ['req', '-x509', ...made, ...named], { stdio: 'ignore' });
  const ca = readFileSync(cert, 'utf8');
  const server = await startRedis({ tls: { cert: ca, key: readFileSync(key, 'utf8'), ca } });
  rmSync(folder, { recursive: true });
  return { place: { kind: 'single', url: server.url }, ca, stop: () => server.stop() };
}

const PLACES: readonly (readonly [string, () => Promise<Place>])[] = [
  ['one Redis with a password', alone],
  ['a Cluster of three', cluster],
  ['Sentinel', sentinel],
  ['Redis over TLS', overTls],
];

describeWith(['redis'], 'parts of the bus in Redis', () => {
  describe.each(PLACES)('on %s', (_, start) => {
    let at: Place;
    let link: RedisLink;
    const boards: RedisPresence[] = [];
    const board = async (instance: string, over: RedisLink = link): Promise<RedisPresence> => {
      const presence = createRedisPresence({ link: over, instance, onError: () => undefined });
      boards.push(presence);
      await presence.renew();
      return presence;
    };

    beforeAll(async () => {
      at = await start();
      link = openRedisLink({ ...at, name: 'test', onError: () => undefined });
      expect(await link.ready(10_000)).toBe(true);
    });
    beforeEach(async () => {
      const servers = link.client instanceof Cluster ? link.client.nodes('master') : [link.client];
      await Promise.all(servers.map((server) => server.flushall()));
    });
    afterEach(async () => {
      for (const one of boards.splice(0)) await one.close();
    });
    afterAll(async () => {
      await link.close();
      await at.stop();
    });

    describe('cells', () => cellsSuite(async () => ({ cells: createRedisCells({ link }) }), pause));
    describe('limiter', () => limiterSuite(async () => ({ limiter: createRedisLimiter({ link }) }), pause));
    describe('presence', () => {
      presenceSuite(async () => ({ presence: await board('one') }));

      it('counts over processes, and lets only the first within a limit see themselves in it', async () => {
        const two = [await board('one'), await board('two')];
        const joins = Array.from({ length: 20 }, (_unused, n) => two[n % 2]?.join('k', `c${n}`) ?? []);
        const answers = await Promise.all(joins);
        expect(answers.filter((entries) => entries.length <= 5)).toHaveLength(5);
        expect(new Set((await two[0]?.list('k'))?.map(({ instance }) => instance))).toEqual(new Set(['one', 'two']));
        expect(new Set(await two[1]?.peers())).toEqual(new Set(['one', 'two']));
      });

      it('leaves only the entry of its own process', async () => {
        const [one, two] = [await board('one'), await board('two')];
        await one.join('k', 'a');
        await two.leave('k', 'a');
        expect(await two.list('k')).toHaveLength(1);
      });

      it('forgets a process that ended in order, at once', async () => {
        const [one, two] = [await board('one'), await board('two')];
        await one.join('k', 'a');
        await one.close();
        await two.renew();
        expect(await two.list('k')).toEqual([]);
        expect(await two.peers()).toEqual(['two']);
      });
    });

    it('takes of many buckets in one turn are answered each by its own bucket', async () => {
      const limiter = createRedisLimiter({ link });
      const shape = { ratePerSecond: 0.001, burst: 1000 };
      const answers = await Promise.all(
        Array.from({ length: 250 }, (_unused, n) => limiter.take(`b${n % 125}`, shape, n + 1)),
      );
      expect(answers.map(({ remaining }) => remaining)).toEqual(
        Array.from({ length: 250 }, (_unused, n) => 1000 - (n < 125 ? n + 1 : 2 * n + 2 - 125)),
      );
    });
  });
});
