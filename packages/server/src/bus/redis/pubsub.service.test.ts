import { execFile } from 'node:child_process';
import { createSecretKey, randomBytes } from 'node:crypto';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { describeWith } from '@tocsin/testkit/needs';
import { type RedisServer, startRedis, startRedisCluster, startRedisSentinel } from '@tocsin/testkit/redis-server';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { pubSubSuite } from '../pubsub.suite.ts';
import { SEAL_FRESH_MS, SEALED_MOST, seal } from '../seal.ts';
import { createRedisClient, ended, type RedisClient } from './link.ts';
import type { RedisPlace } from './place.ts';
import { type BusProcess, CLUSTER_KEY, hear, startBusProcess } from './pubsub-process.suite.ts';

interface Where {
  readonly place: RedisPlace;
  readonly ca?: string;
  stop(): Promise<void>;
}

const processes: BusProcess[] = [];
afterEach(async () => {
  for (const one of processes.splice(0)) await one.close();
});

async function single(): Promise<Where> {
  const redis = await startRedis();
  return { place: { kind: 'single', url: redis.url }, stop: redis.stop };
}

async function cluster(): Promise<Where> {
  const { addresses, stop } = await startRedisCluster();
  return { place: { kind: 'cluster', nodes: addresses }, stop };
}

async function sentinel(): Promise<Where> {
  const { addresses, name, stop } = await startRedisSentinel();
  return { place: { kind: 'sentinel', sentinels: addresses, name }, stop };
}

async function tls(): Promise<Where> {
  const folder = await mkdtemp(join(tmpdir(), 'tocsin-tls-'));
  const [cert, key] = [join(folder, 'cert.pem'), join(folder, 'key.pem')];
  const subject = ['-subj', '/CN=127.0.0.1', '-addext', 'subjectAltName=IP:127.0.0.1', '-days', '2'];
  const made = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-noenc', '-keyout', key, '-out', cert];
  await promisify(execFile)('openssl', ['req', '-x509', ...made, ...subject]);
  const redis = await startRedis({ tls: { cert, key, ca: cert }, args: ['--requirepass', 'a secret'] });
  const ca = await readFile(cert, 'utf8');
  const stop = async (): Promise<void> => {
    await redis.stop();
    await rm(folder, { recursive: true });
  };
  return { place: { kind: 'single', url: redis.url }, ca, stop };
}

describeWith(['redis'], 'publish-subscribe over Redis', () => {
  describe.each([
    ['one server', single],
    ['a Cluster of three', cluster],
    ['Sentinel', sentinel],
    ['TLS with a password', tls],
  ])('%s', (_name, start) => {
    let where: Where;
    beforeAll(async () => {
      where = await start();
    });
    afterAll(() => where.stop());

    const open = async (): Promise<BusProcess> => {
      const one = await startBusProcess(where.place, where.ca === undefined ? {} : { ca: where.ca });
      processes.push(one);
      await one.link.ready(5000);
      return one;
    };

    pubSubSuite(open);

    it('is heard by every process on every shard, in the order of each publisher, once', async () => {
      const [one, two] = [await open(), await open()];
      const topics = ['channel:alerts', 'log', 'sessions', 'registry', 'websocket:replaced'];
      const heard: string[][] = [];
      for (const topic of topics) heard.push(await hear(one, topic), await hear(two, topic));
      const from = (tag: string): string[] => Array.from({ length: 50 }, (_, n) => `${tag}${n}`);
      const all = topics.flatMap((topic) => [
        ...from('one').map((payload) => one.pubsub.publish(topic, payload)),
        ...from('two').map((payload) => two.pubsub.publish(topic, payload)),
      ]);
      await Promise.all(all);
      await vi.waitFor(() => expect(heard.map(({ length }) => length)).toEqual(heard.map(() => 100)));
      for (const list of heard) {
        expect(list.filter((payload) => payload.startsWith('one'))).toEqual(from('one'));
        expect(list.filter((payload) => payload.startsWith('two'))).toEqual(from('two'));
      }
      expect([one.dropped, two.dropped]).toEqual([[], []]);
    });

    it('says when a message was published, and carries any text', async () => {
      const [one, two] = [await open(), await open()];
      const listener = vi.fn();
      await two.pubsub.subscribe('t', listener);
      const before = Date.now();
      await one.pubsub.publish('t', '{"ä": "\\n\u0000€𝄞."}\n');
      await vi.waitFor(() => expect(listener).toHaveBeenCalledTimes(1));
      const [payload, publishedAt] = listener.mock.calls[0] as [string, number];
      expect(payload).toBe('{"ä": "\\n\u0000€𝄞."}\n');
      expect(publishedAt).toBeGreaterThanOrEqual(before);
      expect(publishedAt).toBeLessThanOrEqual(Date.now());
    });

    it('is healthy once a probe came back, and has nothing made anew', async () => {
      const one = await open();
      await hear(one, 'channel:alerts');
      await vi.waitFor(() => expect(one.pubsub.healthy()).toBe(true), 5000);
      expect(one.pubsub.lagMs()).toBeLessThan(5000);
      expect(one.remade).toEqual([]);
    });
  });
});

describeWith(['redis'], 'messages of a shared bus', () => {
  let redis: RedisServer;
  let stranger: RedisClient;
  beforeAll(async () => {
    redis = await startRedis();
    stranger = createRedisClient({ kind: 'single', url: redis.url }, { name: 'stranger', onError: () => undefined });
    await vi.waitFor(() => expect(stranger.status).toBe('ready'));
  });
  afterAll(async () => {
    await ended(stranger);
    await redis.stop();
  });

  const open = async (key = CLUSTER_KEY): Promise<BusProcess> => {
    const one = await startBusProcess({ kind: 'single', url: redis.url }, { key });
    processes.push(one);
    await one.link.ready(5000);
    return one;
  };
  const marker = async (from: BusProcess, topic: string, heard: string[]): Promise<void> => {
    await from.pubsub.publish(topic, 'marker');
    await vi.waitFor(() => expect(heard).toContain('marker'));
  };

  it('that are forged or stale are dropped and counted, whoever published them with redis-cli', async () => {
    const [one, two] = [await open(), await open()];
    const topic = 'channel:alerts';
    const heard = await hear(one, topic);
    const now = Date.now();
    const body = 'AAAAAAAAAAAAmforged';
    const channel = `bus:{${topic}}`;
    await redis.cli('publish', channel, seal(createSecretKey(randomBytes(32)), topic, body, now));
    await redis.cli('publish', channel, seal(CLUSTER_KEY, 'log', body, now));
    await redis.cli('publish', channel, seal(CLUSTER_KEY, topic, body, now - SEAL_FRESH_MS - 1000));
    await redis.cli('publish', channel, seal(CLUSTER_KEY, topic, body, now + SEAL_FRESH_MS + 60_000));
    await redis.cli('publish', channel, 'junk');
    await redis.cli('publish', channel, seal(CLUSTER_KEY, topic, 'AAAAAAAAAAAAxno-kind', now));
    await marker(two, topic, heard);
    expect(heard).toEqual(['marker']);
    expect(one.dropped).toEqual(
      ['forged', 'forged', 'stale', 'stale', 'malformed', 'malformed'].map((why) => [why, topic]),
    );
  });

  it('that were changed on the way are dropped, wherever the change is', async () => {
    const [one, two] = [await open(), await open()];
    const heard = await hear(one, 't');
    const sealed = seal(CLUSTER_KEY, 't', 'AAAAAAAAAAAAmx', Date.now());
    for (let at = 0; at < sealed.length; at++) {
      await stranger.publish('bus:{t}', sealed.slice(0, at) + (sealed[at] === 'A' ? 'Q' : 'A') + sealed.slice(at + 1));
    }
    await marker(two, 't', heard);
    expect(heard).toEqual(['marker']);
    expect(one.dropped).toHaveLength(sealed.length);
  });

  it('of a process with another secret are none', async () => {
    const [one, other] = [await open(), await open(createSecretKey(randomBytes(32)))];
    const heard = await hear(one, 't');
    await other.pubsub.publish('t', 'x');
    await vi.waitFor(() => expect(one.dropped).toContainEqual(['forged', 't']));
    expect(heard).toEqual([]);
  });

  it('reach a process once, also when they are played again, its own ones and those of others', async () => {
    const [one, two] = [await open(), await open()];
    const texts: string[] = [];
    const tap = createRedisClient(
      { kind: 'single', url: redis.url },
      { name: 'tap', subscriber: true, onError: () => undefined },
    );
    tap.on('message', (_channel: string, text: string) => texts.push(text));
    await vi.waitFor(() => expect(tap.status).toBe('ready'));
    await tap.subscribe('bus:{t}');
    const heard = [await hear(one, 't'), await hear(two, 't')] as const;
    await one.pubsub.publish('t', 'x');
    await one.pubsub.publish('t', 'y');
    const messages = (): string[] => texts.filter((text) => text.endsWith('.x') || text.endsWith('.y'));
    await vi.waitFor(() => expect(messages()).toHaveLength(2));
    for (const text of [...messages(), ...messages()]) await stranger.publish('bus:{t}', text);
    await marker(two, 't', heard[0]);
    await ended(tap);
    expect(heard).toEqual([
      ['x', 'y', 'marker'],
      ['x', 'y', 'marker'],
    ]);
    expect(one.dropped).toEqual([]);
    expect(two.dropped).toEqual(Array.from({ length: 4 }, () => ['replayed', 't']));
  });

  it('that are too long reach nobody, and their publisher is told', async () => {
    const one = await open();
    const heard = await hear(one, 't');
    await expect(one.pubsub.publish('t', 'x'.repeat(SEALED_MOST))).rejects.toMatchObject({
      code: 'bus-message-too-long',
    });
    await one.pubsub.publish('t', 'y'.repeat(SEALED_MOST - 128));
    expect(heard.map(({ length }) => length)).toEqual([SEALED_MOST - 128]);
  });

  it('harm nobody when their listener throws', async () => {
    const [one, two] = [await open(), await open()];
    await one.pubsub.subscribe('t', () => {
      throw new Error('no');
    });
    const heard = await hear(one, 't');
    await marker(two, 't', heard);
    await one.pubsub.publish('t', 'own');
    await vi.waitFor(() => expect(heard).toEqual(['marker', 'own']));
    expect(one.listenerErrors).toHaveLength(2);
    expect(one.pubsub.healthy()).toBe(true);
  });

  it('flow once Redis allows a channel that it refused', async () => {
    await redis.cli('acl', 'setuser', 'half', 'on', '>pass', '~*', '+@all', 'resetchannels', '&bus:{probe}');
    const place: RedisPlace = { kind: 'single', url: redis.url.replace('//', '//half:pass@') };
    const one = await startBusProcess({ kind: 'single', url: redis.url }, { hearing: place });
    processes.push(one);
    const heard = await hear(one, 't');
    expect(one.errors.map(String).join()).toContain('NOPERM');
    expect(one.errors.map(String).join()).not.toContain('pass');
    await redis.cli('acl', 'setuser', 'half', 'allchannels');
    await vi.waitFor(async () => expect(await redis.cli('pubsub', 'channels')).toContain('bus:{t}'));
    await marker(await open(), 't', heard);
  });

  it('are heard no more, and their channel is left, after the last subscription of a topic ended', async () => {
    const one = await open();
    const end = await one.pubsub.subscribe('t', () => undefined);
    expect(await redis.cli('pubsub', 'channels')).toContain('bus:{t}');
    await end();
    await vi.waitFor(async () => expect(await redis.cli('pubsub', 'channels')).not.toContain('bus:{t}'));
    const heard = await hear(one, 't');
    await marker(await open(), 't', heard);
  });
});
