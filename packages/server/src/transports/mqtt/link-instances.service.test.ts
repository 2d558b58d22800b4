import { type ChildProcess, spawn } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { connect } from 'mqtt';
import { openTestDatabase, type TestDatabase } from '@tocsin/testkit/database';
import { guardChild } from '@tocsin/testkit/guard';
import { startMosquitto } from '@tocsin/testkit/mosquitto-server';
import { describeWith } from '@tocsin/testkit/needs';
import { startProxy } from '@tocsin/testkit/proxy';
import { afterEach, expect, it } from 'vitest';
import {
  endAll,
  later,
  memorySlots,
  newerBroker,
  noting,
  oldBroker,
  publisher,
  startLink,
  until,
} from './link-system.suite.ts';

afterEach(endAll);

/** One whose ACL keeps `$SYS` back, so that it does not say what it is. */
async function brokerPort(): Promise<number> {
  const started = await startMosquitto((folder) => {
    writeFileSync(join(folder, 'acl'), 'topic readwrite #\n', { mode: 0o644 });
    return ['allow_anonymous true', `acl_file ${folder}/acl`, 'max_queued_messages 0'];
  });
  later(() => started.stop());
  return started.port;
}

/** Runs in a process of its own: a link that writes down what it takes before it is acknowledged. */
const INSTANCE = `
import { writeSync } from 'node:fs';
import { createBrokerLink } from '@tocsin/server/transports/mqtt/link';
import { createMqttSlots } from '@tocsin/server/store/postgres/mqtt-slots';
import { openDatabase } from '@tocsin/server/store/pool';
import { createMetrics } from '@tocsin/server/ops/metrics';
import { systemClock } from '@tocsin/server/lib/clock';
const [instance, port, url] = process.argv.slice(1);
const say = (word) => (fields, message) => writeSync(1, word + ' ' + JSON.stringify({ ...fields, message }) + '\\n');
createBrokerLink({
  settings: {
    host: '127.0.0.1', port: Number(port), tls: false, caFile: null, certFile: null, keyFile: null, username: null, password: null,
    filters: ['devices/+/metrics'], sharing: true, backoffMinMs: 50, backoffMaxMs: 500, instance,
  },
  take: async ({ topic, payload }) => {
    writeSync(1, 'taken ' + topic + ' ' + payload.toString('utf8') + '\\n');
    return { kind: 'acknowledge' };
  },
  refused: () => undefined,
  slots: createMqttSlots(openDatabase(url)),
  clock: systemClock,
  log: { info: say('info'), warn: say('warn'), error: say('error') },
  metrics: createMetrics('test'),
  times: { leaseMs: 1500, renewMs: 300, lookMs: 100, quietMs: 300, askMs: 1000 },
}).start();
`;

interface Instance {
  readonly child: ChildProcess;
  readonly taken: Set<string>;
  readonly lines: string[];
}

function startInstance(name: string, port: number, url: string): Instance {
  const args = ['--input-type=module', '-e', INSTANCE, name, String(port), url];
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  guardChild(child);
  later(() => child.kill('SIGKILL'));
  const taken = new Set<string>();
  const lines: string[] = [];
  let rest = '';
  child.stdout?.on('data', (chunk: Buffer) => {
    const parts = (rest + chunk.toString('utf8')).split('\n');
    rest = parts.pop() ?? '';
    for (const line of parts) {
      if (line.startsWith('taken ')) taken.add(line.slice('taken '.length));
      else lines.push(line);
    }
  });
  return { child, taken, lines };
}

/** True when the broker has a session of this client. */
function hasSession(port: number, clientId: string): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const client = connect({ host: '127.0.0.1', port, clientId, clean: false, reconnectPeriod: 0 });
    client.on('error', reject);
    client.once('connect', ({ sessionPresent }) => {
      client.end(true);
      resolve(sessionPresent);
    });
  });
}

/** Two processes at one broker, both connected, and hosts that publish messages which can be told apart. */
async function twoProcesses(): Promise<{
  readonly port: number;
  readonly db: TestDatabase['db'];
  readonly first: Instance;
  readonly second: Instance;
  /** `topic payload` of all so far. */
  readonly published: readonly string[];
  /** So many more; resolves with their PUBACKs. */
  publish(count: number): Promise<void>;
}> {
  const port = await brokerPort();
  const { db, url, close } = await openTestDatabase();
  later(close);
  const connected = async (name: string): Promise<Instance> => {
    const instance = startInstance(name, port, url);
    await until(() => instance.lines.some((line) => line.includes('mqtt: connected')));
    return instance;
  };
  const [first, second] = [await connected('a'), await connected('b')];
  const { send } = await publisher(port);
  const published: string[] = [];
  return {
    ...{ port, db, first, second, published },
    async publish(count) {
      const begun = published.length;
      for (let n = begun; n < begun + count; n += 1) published.push(`devices/h${n % 10}/metrics ${n}`);
      await Promise.all(published.slice(begun).map((text) => send(...(text.split(' ') as [string, string]))));
    },
  };
}

describeWith(['mosquitto'], 'links of several processes', () => {
  it('share the messages; what is left of one killed with SIGKILL is taken by the other, and its session ends', async () => {
    const { port, db, first, second, published, publish } = await twoProcesses();
    const all = (): Set<string> => new Set([...first.taken, ...second.taken]);
    await publish(400);
    await until(() => all().size === 400);
    expect(first.taken.size).toBeGreaterThan(100);
    expect(second.taken.size).toBeGreaterThan(100);
    const going = publish(600);
    await until(() => first.taken.size > 250);
    first.child.kill('SIGKILL');
    await going;
    await publish(200);
    await until(() => published.every((text) => all().has(text)));
    await until(() => second.lines.some((line) => line.includes('ended its session')));
    expect(await db.query('SELECT number FROM mqtt_slots')).toEqual([{ number: 1 }]);
    const [name] = await db.query<{ value: string }>("SELECT value FROM installation WHERE name = 'mqtt-name'");
    expect(await hasSession(port, `tocsin-${name?.value}-0`)).toBe(false);
    await publish(200);
    await until(() => published.every((text) => all().has(text)));
  });

  it('lose nothing when one freezes beyond its lease and wakes up: another has its session by then, and it works in a slot of its own', async () => {
    const { db, first, second, published, publish } = await twoProcesses();
    const going = publish(600);
    await until(() => first.taken.size > 50);
    first.child.kill('SIGSTOP');
    await going;
    await until(() => second.lines.some((line) => line.includes('ended its session')));
    await until(() => published.every((text) => first.taken.has(text) || second.taken.has(text)));
    const before = first.lines.length;
    first.child.kill('SIGCONT');
    await until(() => first.lines.slice(before).some((line) => line.includes('mqtt: connected')));
    await publish(200);
    await until(() => published.every((text) => first.taken.has(text) || second.taken.has(text)));
    expect(second.lines.filter((line) => line.includes('no connection'))).toEqual([]);
    expect(await db.query('SELECT owner FROM mqtt_slots ORDER BY owner')).toEqual([{ owner: 'a' }, { owner: 'b' }]);
  });

  it('do not share where the broker forgets that at its restart: nothing is lost when it ends in mid-stream', async () => {
    const lines = ['allow_anonymous true', 'max_queued_messages 0'];
    const broker = await startMosquitto(() => lines, { persistence: true });
    later(() => broker.stop());
    const { db, url, close } = await openTestDatabase();
    later(close);
    const first = startInstance('a', broker.port, url);
    await until(() => first.lines.some((line) => line.includes('mqtt: connected')));
    const second = startInstance('b', broker.port, url);
    await until(() => second.lines.some((line) => line.includes('standing by')));
    const { send } = await publisher(broker.port);
    const acknowledged: string[] = [];
    let going = true;
    const work = async (topic: string): Promise<void> => {
      for (let n = 0; going; n += 1) {
        await send(topic, String(n));
        acknowledged.push(`${topic} ${n}`);
      }
    };
    const all = Promise.all(Array.from({ length: 8 }, (_, n) => work(`devices/h${n}/metrics`)));
    for (let turn = 0; turn < 3; turn += 1) {
      const before = acknowledged.length;
      await until(() => acknowledged.length > before + 200);
      await broker.end();
      await broker.restart();
    }
    const before = acknowledged.length;
    await until(() => acknowledged.length > before + 200);
    going = false;
    await all;
    await until(() => first.taken.size >= acknowledged.length);
    expect([...first.taken].sort()).toEqual([...acknowledged].sort());
    expect(second.taken.size).toBe(0);
    await until(async () => (await db.query('SELECT number FROM mqtt_slots')).length === 1);
    expect(await db.query('SELECT number, shared FROM mqtt_slots')).toEqual([{ number: 0, shared: false }]);
    for (const { lines: said } of [first, second]) {
      const why = said.filter((line) => line.includes('forgets shared subscriptions'));
      expect(why).toHaveLength(1);
      expect(why[0]).toContain('mosquitto version 2.0.11');
    }
    first.child.kill('SIGKILL');
    await send('devices/h0/metrics', 'last');
    await until(() => second.taken.has('devices/h0/metrics last'));
  });

  it('stand by where the broker does not share; the next one goes on in the session of one killed with SIGKILL', async () => {
    const port = await brokerPort();
    const old = await oldBroker(port, 'return-code');
    const { url, close } = await openTestDatabase();
    later(close);
    const first = startInstance('a', old, url);
    await until(() => first.lines.some((line) => line.includes('mqtt: connected')));
    const second = startInstance('b', old, url);
    await until(() => second.lines.some((line) => line.includes('standing by')));
    const { send } = await publisher(port);
    const published = Array.from({ length: 1000 }, (_, n) => `devices/h${n % 10}/metrics ${n}`);
    const going = Promise.all(published.map((text) => send(...(text.split(' ') as [string, string]))));
    await until(() => first.taken.size > 100);
    first.child.kill('SIGKILL');
    await going;
    await until(() => second.lines.some((line) => line.includes('mqtt: connected')));
    await until(() => published.every((text) => first.taken.has(text) || second.taken.has(text)));
    expect(second.lines.find((line) => line.includes('mqtt: connected'))).toContain('"resumed":true');
  });

  it('a session is adopted in 3.1.1 too, and ended', async () => {
    const port = await brokerPort();
    const old = await oldBroker(port, 'return-code');
    const slots = memorySlots();
    const filters = ['devices/+/metrics'];
    slots.rows.set(3, { number: 3, fence: -1, owner: 'gone', filters, shared: true, until: 0 });
    const gone = connect({ host: '127.0.0.1', port, clientId: 'tocsin-0123456789ab-3', clean: false });
    await gone.subscribeAsync('devices/+/metrics', { qos: 1 });
    await gone.endAsync();
    const { send } = await publisher(port);
    await Promise.all(Array.from({ length: 50 }, (_, n) => send('devices/h1/metrics', String(n))));
    const { take, seen } = noting();
    startLink({ port: old }, take, { slots });
    await until(() => seen.size === 50 && !slots.rows.has(3));
    expect(await hasSession(port, 'tocsin-0123456789ab-3')).toBe(false);
  });

  it('one whose slot was taken over ends its connection, and works on in another', async () => {
    const port = await brokerPort();
    const slots = memorySlots();
    const { take, seen } = noting();
    const link = startLink({ port }, take, { slots });
    await until(() => link.connected());
    const row = slots.rows.get(0);
    if (row === undefined) throw new Error('no slot');
    slots.rows.set(0, { ...row, owner: 'other', fence: 1000, until: performance.now() + 60_000 });
    await until(async () => (await link.metrics()).includes('reconnects_total{reason="lease"} 1'));
    await until(() => link.connected());
    expect(link.state()).toEqual({ kind: 'connected', slot: 1 });
    const { send } = await publisher(port);
    await send('devices/h1/metrics', 'x');
    // The other holder's session has its share: what matters is that ours comes.
    await send('devices/h1/metrics', 'y');
    await until(() => seen.size >= 1);
  });

  it('one that is cut off while another works in its slot does not connect as it again', async () => {
    const port = await brokerPort();
    const proxy = await startProxy({ port });
    later(() => proxy.stop());
    const slots = memorySlots();
    let away = false;
    const cutOff = {
      ...slots,
      renew: async (...args: Parameters<typeof slots.renew>) => {
        if (away) throw Object.assign(new Error('away'), { code: 'store-unavailable' });
        return slots.renew(...args);
      },
      claim: async (...args: Parameters<typeof slots.claim>) => {
        if (away) throw Object.assign(new Error('away'), { code: 'store-unavailable' });
        return slots.claim(...args);
      },
    };
    const first = startLink({ port: proxy.port }, noting().take, { slots: cutOff });
    await until(() => first.connected());
    away = true;
    const { take, seen } = noting();
    const second = startLink({ port, instance: 'i2' }, take, { slots });
    await until(() => second.connected());
    await until(() => !first.connected());
    // mosquitto 2.0.11 only closes the connection before; others say why.
    const cutOnce = /reconnects_total\{reason="(closed|taken-over)"\} 1/;
    // It is not connected a moment before it knows why.
    await expect.poll(() => first.metrics(), { timeout: 10_000 }).toMatch(cutOnce);
    const { send } = await publisher(port);
    await Promise.all(Array.from({ length: 100 }, (_, n) => send('devices/h1/metrics', String(n))));
    await until(() => seen.size === 100);
    expect(second.connected()).toBe(true);
    // Until its pause after the end is over it says why that was; then it asks the store, which is away.
    await expect.poll(() => first.state(), { timeout: 10_000 }).toEqual({ kind: 'waiting', reason: 'store' });
    expect(await first.metrics()).toMatch(cutOnce);
    away = false;
    await until(() => first.connected());
  });
});

describeWith(['mosquitto'], 'what a link subscribes to', () => {
  it('is shared while several work, and plain when one does; none is missed on the way', async () => {
    const port = await brokerPort();
    const slots = memorySlots();
    const [one, two] = [noting(), noting()];
    const first = startLink({ port, instance: 'i1' }, one.take, { slots });
    await until(() => first.connected());
    const { send } = await publisher(port);
    let going = true;
    const sent: string[] = [];
    const stream = async (): Promise<void> => {
      for (let n = 0; going; n += 1) {
        await send('devices/h1/metrics', String(n));
        sent.push(`devices/h1/metrics ${n}`);
      }
    };
    const streaming = stream();
    const filters = (number: number): string => slots.rows.get(number)?.filters.join() ?? '';
    const plain = 'devices/+/metrics,devices/+/readings';
    expect(filters(0)).toBe(plain);
    const second = startLink({ port, instance: 'i2' }, two.take, { slots });
    await until(() =>
      [0, 1].every((number) => filters(number).startsWith('$share/') && !filters(number).includes(plain)),
    );
    await until(() => two.seen.size > 100);
    await first.stop();
    await until(() => filters(1) === plain && !slots.rows.has(0));
    const before = two.seen.size;
    await until(() => two.seen.size > before + 100);
    going = false;
    await streaming;
    await until(() => sent.every((text) => one.seen.has(text) || two.seen.has(text)));
    expect(second.lines.filter(({ level }) => level === 'warn')).toEqual([]);
  });

  it('is shared where the broker says that it keeps it', async () => {
    const { port, stop } = await startMosquitto();
    later(stop);
    const newer = await newerBroker(port);
    const slots = memorySlots();
    const { take, seen } = noting();
    const links = ['i1', 'i2'].map((instance) => startLink({ port: newer, instance }, take, { slots }));
    await until(() => links.every((link) => link.connected()));
    const filters = (): string[] => [...slots.rows.values()].flatMap((row) => [...row.filters]);
    await until(() => filters().length === 4 && filters().every((filter) => filter.startsWith('$share/')));
    const { send } = await publisher(port);
    await send('devices/h1/metrics', 'x');
    await until(() => seen.size > 0);
    expect([...seen.keys()]).toEqual(['devices/h1/metrics x']);
    for (const link of links) expect(link.lines.filter(({ level }) => level === 'warn')).toEqual([]);
  });

  it('is plain again where another broker is found after a new connection, one that forgets', async () => {
    const { port, stop } = await startMosquitto();
    later(stop);
    let reached = await newerBroker(port);
    const proxy = await startProxy(() => ({ port: reached }));
    later(() => proxy.stop());
    const slots = memorySlots();
    const links = ['i1', 'i2'].map((instance) => startLink({ port: proxy.port, instance }, noting().take, { slots }));
    await until(() => links.every((link) => link.connected()));
    await until(() => slots.rows.size === 2 && slots.rows.get(1)?.filters[0]?.startsWith('$share/') === true);
    reached = port;
    proxy.reset();
    await until(() => links.some((link) => link.state().kind === 'standby') && slots.rows.get(0)?.shared === false);
    await until(() => links.some((link) => link.connected()) && slots.rows.size === 1);
    expect(slots.rows.get(0)?.filters).toEqual(['devices/+/metrics', 'devices/+/readings']);
  });

  it('is never shared where the settings say so: the second one stands by', async () => {
    const port = await brokerPort();
    const slots = memorySlots();
    const first = startLink({ port, sharing: false }, noting().take, { slots });
    await until(() => first.connected());
    const second = startLink({ port, sharing: false, instance: 'i2' }, noting().take, { slots });
    await until(() => second.state().kind === 'standby');
    await first.stop();
    await until(() => second.connected());
    expect(second.lines.at(-1)).toMatchObject({ resumed: true });
  });

  it('changes with the settings: an old topic of the session brings nothing any more', async () => {
    const port = await brokerPort();
    const slots = memorySlots();
    const before = startLink({ port, filters: ['old/+/metrics'] }, noting().take, { slots });
    await until(() => before.connected());
    await before.stop();
    const { take, seen } = noting();
    const after = startLink({ port, filters: ['new/+/metrics'] }, take, { slots });
    await until(() => after.connected());
    expect(slots.rows.get(0)?.filters).toEqual(['new/+/metrics']);
    const { send } = await publisher(port);
    await send('old/h1/metrics', 'x');
    await send('new/h1/metrics', 'x');
    await until(() => seen.size === 1);
    expect([...seen.keys()]).toEqual(['new/h1/metrics x']);
  });
});
