/**
 * A server in a few lines: a channel that grows, connections that are cut, that repeat, that move, that come late. However
 * that goes, a page sees every alert once, in order, and ends protected.
 */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { alertAt, alertMessage, createWorld, type ScriptedSocket, watch, watermark, welcome } from './world.suite.ts';

/** What may happen. Numbers choose among the connections. */
const happenings = fc.array(
  fc.oneof(
    fc.record({ do: fc.constant('raise' as const), times: fc.integer({ min: 1, max: 4 }) }),
    fc.record({ do: fc.constant('send' as const), times: fc.integer({ min: 1, max: 5 }) }),
    fc.record({ do: fc.constant('repeat' as const), times: fc.integer({ min: 1, max: 5 }) }),
    fc.record({ do: fc.constantFrom('watermark' as const, 'move' as const), times: fc.constant(1) }),
    fc.record({ do: fc.constant('cut' as const), times: fc.constantFrom(1001, 1006, 1012, 1013, 4008, 4029, 4002) }),
    fc.record({ do: fc.constant('pass' as const), times: fc.integer({ min: 1, max: 4000 }) }),
    fc.record({ do: fc.constant('reload' as const), times: fc.constant(1) }),
  ),
  { maxLength: 60 },
);

/** What the server keeps of one connection. */
interface Serving {
  readonly socket: ScriptedSocket;
  /** The offset of the next message. */
  cursor: number;
  readonly from: number;
  over: boolean;
}

/** The model's server: it welcomes whoever came, and does what it is told to its connections. */
function createServer(world: ReturnType<typeof createWorld>) {
  const serving: Serving[] = [];
  const server = {
    head: 3,
    /** Welcomes those who have come. */
    admit() {
      for (const socket of world.sockets.slice(serving.length)) {
        const offset = socket.url.searchParams.get('offset');
        const from = offset === null ? server.head : Number(offset);
        serving.push({ socket, cursor: from, from, over: false });
        if (!socket.left) socket.say(welcome(from));
      }
    },
    open: () => serving.filter(({ socket, over }) => !socket.left && !over),
    send(one: Serving, most: number) {
      for (let sent = 0; sent < most && one.cursor < server.head; sent++) one.socket.say(alertMessage(++one.cursor));
    },
    end(one: Serving, code: number) {
      one.over = true;
      one.socket.end(code);
    },
  };
  return server;
}

test('a page sees every alert once and in order, whatever happens to its connections', async () => {
  await fc.assert(
    fc.asyncProperty(happenings, fc.double({ min: 0, max: 0.99, noNaN: true }), async (steps, random) => {
      const world = createWorld();
      world.random = random;
      const server = createServer(world);
      let kept: unknown = null;
      let token = 0;
      const seen: string[] = [];
      const visit = () => {
        const { alerts } = watch(world, {
          credentials: { kind: 'token', secret: async () => `t${++token}` },
          resume: { load: () => kept, save: (point) => void (kept = point) },
        });
        const got: number[] = [];
        alerts.on('alert', ({ offset }) => {
          got.push(offset);
          seen.push(`${offset}`);
        });
        return { alerts, got };
      };
      let page = visit();
      await world.advance(0);
      server.admit();
      await world.settle();
      for (const { do: what, times } of steps) {
        const open = server.open();
        const one = open[times % Math.max(1, open.length)];
        if (what === 'raise') server.head += times;
        else if (what === 'pass') await world.advance(times);
        else if (what === 'reload') {
          page.alerts.close();
          page = visit();
        } else if (one === undefined) await world.advance(1000);
        else if (what === 'send') server.send(one, times);
        else if (what === 'repeat') {
          for (let at = Math.max(one.from + 1, one.cursor - times); at <= one.cursor; at++)
            one.socket.say(alertMessage(at));
        } else if (what === 'watermark') one.socket.say(watermark(one.cursor));
        else if (what === 'move') one.socket.say({ type: 'moving', retryAfterMs: 500 });
        else server.end(one, times);
        await world.settle();
        server.admit();
        // Within a page: rising, no offset twice.
        expect(page.got).toEqual([...new Set(page.got)].sort((a, b) => a - b));
      }
      // Whatever is open brings the rest; whoever was cut comes back.
      const missing = (): boolean => new Set(seen).size < server.head - 3 || page.alerts.state !== 'protected';
      for (let turn = 0; turn < 80 && missing(); turn++) {
        await world.advance(1000);
        server.admit();
        for (const one of server.open()) {
          server.send(one, 1000);
          one.socket.say(watermark(one.cursor));
        }
        await world.settle();
      }
      expect(page.alerts.state).toBe('protected');
      const everything = Array.from({ length: server.head - 3 }, (_, index) => String(index + 4));
      expect([...new Set(seen)]).toEqual(everything);
      expect(page.alerts.counts.violations).toBe(0);
      page.alerts.close();
      expect(world.timers()).toBe(0);
    }),
    { numRuns: 150 },
  );
}, 120_000);

test('revisions of the same alerts come in order, too, and none is told twice', async () => {
  const world = createWorld();
  const heard = watch(world);
  const revisions: string[] = [];
  for (const name of ['alert', 'update'] as const) {
    heard.alerts.on(name, ({ id, revision }) => revisions.push(`${id.at(-1)}.${revision}`));
  }
  await world.advance(0);
  world.newest().say(welcome(0));
  const plan: [number, number][] = [
    [1, 1],
    [2, 1],
    [1, 2],
    [2, 2],
    [1, 3],
  ];
  const message = (index: number): object => {
    const [which, revision] = plan[index] ?? [1, 1];
    return alertMessage(index + 1, { id: alertAt(which).id, revision });
  };
  for (let index = 0; index < plan.length; index++) {
    world.newest().say(message(index));
    if (index % 2 === 0) world.newest().say(message(index));
    await world.settle();
    world.newest().end(1006);
    const before = world.sockets.length;
    while (world.sockets.length === before) await world.advance(1000);
    world.newest().say(welcome(index + 1));
  }
  expect(revisions).toEqual(['1.1', '2.1', '1.2', '2.2', '1.3']);
});
