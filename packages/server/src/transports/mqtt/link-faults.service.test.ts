import { setTimeout as pause } from 'node:timers/promises';
import { type MosquittoServer, startMosquitto } from '@tocsin/testkit/mosquitto-server';
import { describeWith } from '@tocsin/testkit/needs';
import { type Proxy, startProxy } from '@tocsin/testkit/proxy';
import { afterEach, expect, it } from 'vitest';
import { WINDOW_MESSAGES } from './link-connection.ts';
import {
  endAll,
  later,
  noting,
  oldBroker,
  type Publisher,
  publisher,
  startLink,
  textOf,
  until,
} from './link-system.suite.ts';
import type { MqttVerdict } from './message.ts';

afterEach(endAll);

async function broker(lines: readonly string[] = [], persistence = false): Promise<MosquittoServer> {
  const started = await startMosquitto(() => ['allow_anonymous true', 'max_queued_messages 0', ...lines], {
    persistence,
  });
  later(() => started.stop());
  return started;
}

async function through(port: number): Promise<Proxy> {
  const proxy = await startProxy({ port });
  later(() => proxy.stop());
  return proxy;
}

/** Publishes until it is told to end; answers what the broker acknowledged. */
function stream({ send }: Publisher): { readonly end: () => Promise<readonly string[]> } {
  const acknowledged: string[] = [];
  let going = true;
  const work = async (topic: string): Promise<void> => {
    for (let n = 0; going; n += 1) {
      await send(topic, String(n));
      acknowledged.push(`${topic} ${n}`);
      await pause(1);
    }
  };
  const all = Promise.all(Array.from({ length: 8 }, (_, n) => work(`devices/h${n}/metrics`)));
  return {
    end: async () => {
      going = false;
      await all;
      return acknowledged;
    },
  };
}

function missing(wanted: readonly string[], seen: ReadonlyMap<string, number>): number {
  return wanted.filter((text) => !seen.has(text)).length;
}

/** The ports of a broker that speaks MQTT 5, and of the same one behind something that only lets 3.1.1 through. */
const VERSIONS = [
  ['5', async (port: number) => port],
  ['3.1.1', (port: number) => oldBroker(port, 'return-code')],
] as const;

describeWith(['mosquitto'], 'the link when something fails', () => {
  it.each(VERSIONS)(
    'gets every acknowledged message while its connection is cut again and again (MQTT %s)',
    async (version, reach) => {
      const { port } = await broker();
      const proxy = await through(await reach(port));
      const { take, seen } = noting();
      const link = startLink({ port: proxy.port }, take);
      await until(() => link.connected());
      expect(link.lines.at(-1)).toMatchObject({ version });
      const published = stream(await publisher(port));
      for (let n = 0; n < 6; n += 1) {
        const before = seen.size;
        await until(() => link.connected() && seen.size > before + 100);
        proxy.reset();
        await until(() => !link.connected());
      }
      const acknowledged = await published.end();
      await until(() => missing(acknowledged, seen) === 0);
      expect(await link.metrics()).toContain('tocsin_mqtt_link_reconnects_total{reason="closed"} 6');
    },
  );

  it('notices a link that swallows everything, and goes on with what was missed when it is healed', async () => {
    const { port } = await broker();
    const proxy = await through(port);
    const { take, seen } = noting();
    const link = startLink({ port: proxy.port }, take, { times: { keepAliveSeconds: 1, answerMs: 500 } });
    await until(() => link.connected());
    const published = stream(await publisher(port));
    await until(() => seen.size > 100);
    proxy.halfOpen();
    await until(() => !link.connected());
    proxy.heal();
    const acknowledged = await published.end();
    await until(() => missing(acknowledged, seen) === 0);
    expect(await link.metrics()).toContain('reconnects_total{reason="timeout"}');
  });

  it('notices a broker that is frozen, and goes on when it is thawed', async () => {
    const running = await broker();
    const { take, seen } = noting();
    const times = { keepAliveSeconds: 1, answerMs: 500 };
    const link = startLink({ port: running.port }, take, { times });
    await until(() => link.connected());
    const published = stream(await publisher(running.port));
    await until(() => seen.size > 100);
    running.freeze();
    await until(() => !link.connected());
    running.thaw();
    await until(() => link.connected());
    const acknowledged = await published.end();
    await until(() => missing(acknowledged, seen) === 0);
  });

  it.each(VERSIONS)(
    'gets every acknowledged message while the broker is restarted in mid-stream (MQTT %s)',
    async (_, reach) => {
      const running = await broker([], true);
      const { take, seen } = noting();
      const link = startLink({ port: await reach(running.port) }, take);
      await until(() => link.connected());
      const published = stream(await publisher(running.port));
      for (let n = 0; n < 2; n += 1) {
        const before = seen.size;
        await until(() => seen.size > before + 100);
        await running.end();
        await running.restart();
        await until(() => link.connected());
      }
      const acknowledged = await published.end();
      await until(() => missing(acknowledged, seen) === 0);
    },
  );

  it('gets what a killed broker had written down, though nothing had been taken before', async () => {
    const running = await broker([], true);
    let open = false;
    const seen = new Map<string, number>();
    const link = startLink({ port: running.port }, async (message): Promise<MqttVerdict> => {
      if (!open) return { kind: 'later', retryAfterMs: 50 };
      seen.set(textOf(message), (seen.get(textOf(message)) ?? 0) + 1);
      return { kind: 'acknowledge' };
    });
    await until(() => link.connected());
    const { send } = await publisher(running.port);
    await Promise.all(Array.from({ length: 300 }, (_, n) => send('devices/h1/metrics', String(n))));
    await running.save();
    await running.kill();
    await until(() => !link.connected());
    open = true;
    await running.restart();
    await until(() => seen.size === 300);
    expect([...seen.values()].every((count) => count === 1)).toBe(true);
  });

  it('keeps at most its window in memory when nothing is taken: the broker holds the rest (MQTT 5)', async () => {
    const { port } = await broker();
    let open: (verdict: MqttVerdict) => void = () => undefined;
    const opened = new Promise<MqttVerdict>((resolve) => {
      open = resolve;
    });
    const asked = new Set<string>();
    const link = startLink({ port }, (message) => {
      asked.add(textOf(message));
      return opened;
    });
    await until(() => link.connected());
    const { send } = await publisher(port);
    await Promise.all(Array.from({ length: 3000 }, (_, n) => send(`devices/h${n % 9}/metrics`, String(n))));
    await until(() => asked.size === WINDOW_MESSAGES);
    expect(await link.metrics()).toContain(`tocsin_mqtt_link_in_flight ${WINDOW_MESSAGES}`);
    open({ kind: 'acknowledge' });
    await until(() => asked.size === 3000);
    expect(await link.metrics()).toMatch(/tocsin_mqtt_link_in_flight \d{1,4}\n/);
  });

  it('does so too where the broker knows no window, and is not taken for dead meanwhile (MQTT 3.1.1)', async () => {
    const { port } = await broker(['max_inflight_messages 0']);
    let open: (verdict: MqttVerdict) => void = () => undefined;
    const opened = new Promise<MqttVerdict>((resolve) => {
      open = resolve;
    });
    const asked = new Set<string>();
    let most = 0;
    const old = await oldBroker(port, 'return-code');
    const take = (message: Parameters<typeof textOf>[0]): Promise<MqttVerdict> => {
      asked.add(textOf(message));
      most = Math.max(most, asked.size);
      return opened;
    };
    const link = startLink({ port: old }, take, { times: { keepAliveSeconds: 1, answerMs: 1000 } });
    await until(() => link.connected());
    const { send } = await publisher(port);
    await Promise.all(Array.from({ length: 3000 }, (_, n) => send(`devices/h${n % 9}/metrics`, String(n))));
    await until(() => asked.size === WINDOW_MESSAGES);
    // Longer than the broker and the library wait for a sign of life.
    await pause(4000);
    expect([most, link.connected()]).toEqual([WINDOW_MESSAGES, true]);
    open({ kind: 'acknowledge' });
    await until(() => asked.size === 3000);
    expect(link.lines.filter(({ level }) => level === 'warn')).toHaveLength(1);
    expect(await link.metrics()).not.toContain('reconnects_total{reason="timeout"}');
  });

  it('counts what is still at take after a connection ended: there is no new one before there is room', async () => {
    const { port } = await broker();
    const proxy = await through(port);
    let open: (verdict: MqttVerdict) => void = () => undefined;
    const opened = new Promise<MqttVerdict>((resolve) => {
      open = resolve;
    });
    let asked = 0;
    const link = startLink({ port: proxy.port }, () => {
      asked += 1;
      return opened;
    });
    await until(() => link.connected());
    const { send } = await publisher(port);
    await Promise.all(Array.from({ length: 1500 }, (_, n) => send(`devices/h${n % 9}/metrics`, String(n))));
    await until(() => asked === WINDOW_MESSAGES);
    proxy.reset();
    await until(async () => (await link.metrics()).includes('reconnects_total{reason="closed"} 1'));
    await pause(500);
    expect([asked, link.connected()]).toEqual([WINDOW_MESSAGES, false]);
    open({ kind: 'acknowledge' });
    await until(async () => (await link.metrics()).includes('tocsin_mqtt_link_puback_seconds_count 1500'));
  });

  it('does not take a broker for silent whose answer is behind messages that there is no room for', async () => {
    const { port } = await broker(['max_inflight_messages 0']);
    const old = await oldBroker(port, 'return-code');
    const before = startLink({ port: old }, noting().take);
    await until(() => before.connected());
    await before.stop();
    const { send } = await publisher(port);
    await Promise.all(Array.from({ length: 1500 }, (_, n) => send(`devices/h${n % 9}/metrics`, String(n))));
    let open: (verdict: MqttVerdict) => void = () => undefined;
    const opened = new Promise<MqttVerdict>((resolve) => {
      open = resolve;
    });
    let asked = 0;
    const take = (): Promise<MqttVerdict> => {
      asked += 1;
      return opened;
    };
    const link = startLink({ port: old }, take, { times: { answerMs: 200, keepAliveSeconds: 1 } });
    await until(() => asked === WINDOW_MESSAGES);
    await pause(1000);
    expect(asked).toBe(WINDOW_MESSAGES);
    open({ kind: 'acknowledge' });
    await until(async () => (await link.metrics()).includes('tocsin_mqtt_link_puback_seconds_count 1500'));
    expect(link.connected()).toBe(true);
    expect(await link.metrics()).not.toContain('reconnects_total{reason="timeout"}');
  });

  it('gives up on a broker that takes connections and says nothing, and ends at once when told to meanwhile', async () => {
    const { port } = await broker();
    const proxy = await through(port);
    proxy.halfOpen();
    const link = startLink({ port: proxy.port }, noting().take, { times: { answerMs: 200 } });
    await until(async () => (await link.metrics()).includes('reconnects_total{reason="timeout"} 2'));
    expect(link.lines[0]).toMatchObject({ reason: 'timeout', detail: 'no CONNACK in 200 ms' });
    const patient = startLink({ port: proxy.port }, noting().take, { times: { answerMs: 60_000, connectMs: 60_000 } });
    await until(() => proxy.connections() >= 1);
    await patient.stop();
    expect(patient.lines).toEqual([]);
  });

  it('keeps at most 8 MiB in memory when large messages are not taken', async () => {
    const { port } = await broker();
    let open: (verdict: MqttVerdict) => void = () => undefined;
    const opened = new Promise<MqttVerdict>((resolve) => {
      open = resolve;
    });
    let asked = 0;
    const link = startLink({ port }, () => {
      asked += 1;
      return opened;
    });
    await until(() => link.connected());
    const { send } = await publisher(port);
    const large = Buffer.alloc(250_000, 120);
    await Promise.all(Array.from({ length: 60 }, () => send('devices/h1/metrics', large)));
    await until(() => asked >= 33);
    await pause(300);
    expect(asked * large.length).toBeLessThanOrEqual(9 * 1024 * 1024);
    open({ kind: 'acknowledge' });
    await until(() => asked === 60);
  });

  it('ends in good order: what was at take is acknowledged and not brought again, what was not is', async () => {
    const { port } = await broker();
    const opens: ((verdict: MqttVerdict) => void)[] = [];
    const asked: string[] = [];
    const link = startLink({ port }, (message) => {
      asked.push(textOf(message));
      return new Promise((resolve) => void opens.push(resolve));
    });
    await until(() => link.connected());
    const { send } = await publisher(port);
    for (let n = 0; n < 20; n += 1) await send('devices/h1/metrics', String(n));
    await until(() => asked.length === 20);
    const stopped = link.stop();
    await send('devices/h1/metrics', 'after');
    for (const [n, open] of opens.entries())
      open(n < 15 ? { kind: 'acknowledge' } : { kind: 'later', retryAfterMs: 1 });
    await stopped;
    const { take, seen } = noting();
    startLink({ port }, take);
    await until(() => seen.size === 6);
    await pause(200);
    expect([...seen.keys()].sort()).toEqual(
      [...[15, 16, 17, 18, 19].map((n) => `devices/h1/metrics ${n}`), 'devices/h1/metrics after'].sort(),
    );
  });

  it('tries a message that must wait again, in the order of its topic, and acknowledges nothing meanwhile', async () => {
    const { port } = await broker();
    let refuse = true;
    const taken: string[] = [];
    const link = startLink({ port }, async (message) => {
      if (refuse) return { kind: 'later', retryAfterMs: 20 };
      taken.push(message.payload.toString('utf8'));
      return { kind: 'acknowledge' };
    });
    await until(() => link.connected());
    const { send } = await publisher(port);
    for (let n = 0; n < 100; n += 1) await send('devices/h1/metrics', String(n));
    await pause(100);
    expect(await link.metrics()).toContain('tocsin_mqtt_link_puback_seconds_count 0');
    refuse = false;
    await until(() => taken.length === 100);
    expect(taken).toEqual(Array.from({ length: 100 }, (_, n) => String(n)));
    await until(async () => (await link.metrics()).includes('tocsin_mqtt_link_puback_seconds_count 100'));
  });
});
