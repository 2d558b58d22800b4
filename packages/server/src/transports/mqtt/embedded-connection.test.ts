import { Duplex } from 'node:stream';
import type { Socket } from 'node:net';
import { expect, test } from 'vitest';
import { Connection, type ConnectionHome, HELD_MOST } from './embedded-connection.ts';
import { createLibrary, type Library } from './embedded-library.ts';
import { ACKNOWLEDGE, connectPacket, type MovedClock, movedClock, publishPacket } from './embedded-system.suite.ts';
import type { MqttMessage, TakeMqttMessage } from './message.ts';

/** A socket whose other end has stopped reading: what is written stays. */
class StuckSocket extends Duplex {
  override _read(): void {
    // What comes is pushed.
  }

  override _write(): void {
    // Never taken.
  }
}

interface Opened {
  readonly connection: Connection;
  readonly socket: StuckSocket;
  /** Why it ended. */
  readonly told: string[];
  readonly memory: { held: number };
  rejected(): number;
}

/** A connection that was let in; no topic is ours unless `deviceOf` says so. */
async function open(
  library: Library,
  clock: MovedClock,
  take: TakeMqttMessage = async () => ACKNOWLEDGE,
  deviceOf: (topic: string) => string | null = () => null,
): Promise<Opened> {
  const told: string[] = [];
  const memory = { held: 0 };
  const socket = new StuckSocket();
  let rejected = 0;
  let connection!: Connection;
  await new Promise<void>((resolve) => {
    const home: ConnectionHome = {
      options: {
        clock,
        take,
        metrics: {
          connections: () => undefined,
          refused: () => undefined,
          ended: () => undefined,
          banned: () => undefined,
          rejected: () => void (rejected += 1),
        },
      },
      deviceOf,
      memory,
      admit: async () => ({ kind: 'key', id: 'k', text: '' }),
      open: (connection_, stream) => library.open(connection_, stream),
      opened: () => resolve(),
      refused: (_connection, reason) => void told.push(reason),
      ended: (_connection, _who, reason) => void told.push(reason),
    };
    const peer = { name: 'x', address: 'x', key: 'x', at: clock.monotonic() };
    connection = new Connection(socket as unknown as Socket, peer, home);
    socket.push(connectPacket('x'));
  });
  return { connection, socket, told, memory, rejected: () => rejected };
}

async function turns(count = 20): Promise<void> {
  for (let turn = 0; turn < count; turn++) await new Promise((resolve) => setImmediate(resolve));
}

test('a client that does not read its answers is not read either, and is cut after ten seconds', async () => {
  const clock = movedClock();
  const library = await createLibrary(() => undefined);
  const { connection, socket, told, rejected } = await open(library, clock);
  const many = Array.from({ length: 20_000 }, (_, index) => publishPacket('no/topic', '', { id: index + 1 }));
  socket.push(Buffer.concat(many));
  let before = -1;
  while (rejected() !== before) {
    before = rejected();
    await turns();
  }
  // 16 KiB of answers of four bytes, and a window.
  expect(rejected()).toBeGreaterThan(32);
  expect(rejected()).toBeLessThanOrEqual(4096 + 32);
  connection.upkeep(clock.monotonic());
  clock.move(10_000);
  connection.upkeep(clock.monotonic());
  expect(told).toEqual([]);
  clock.move(1);
  connection.upkeep(clock.monotonic());
  expect(told).toEqual(['slow']);
  await library.close();
});

test('when messages of all connections fill their room each has one on its way, and a large one that is not whole is cut', async () => {
  const library = await createLibrary(() => undefined);
  const asked: MqttMessage[] = [];
  const decide: (() => void)[] = [];
  const take: TakeMqttMessage = (message) => {
    asked.push(message);
    return new Promise((resolve) => decide.push(() => resolve(ACKNOWLEDGE)));
  };
  const { socket, told, memory } = await open(library, movedClock(), take, (topic) => topic);
  const full = HELD_MOST + 1;
  memory.held = full;
  const publish = (id: number, bytes: number): Buffer => publishPacket(`d${id}`, Buffer.alloc(bytes), { id });
  socket.push(Buffer.concat([publish(1, 100), publish(2, 100), publish(3, 16_000).subarray(0, 12_000)]));
  await turns();
  expect(asked.map(({ topic }) => topic)).toEqual(['d1']);
  expect(memory.held).toBe(full + 102);
  decide[0]?.();
  await turns();
  expect(asked.map(({ topic }) => topic)).toEqual(['d1', 'd2']);
  decide[1]?.();
  await turns();
  expect(told).toEqual([]);
  socket.push(publish(3, 16_000).subarray(12_000));
  await turns();
  decide[2]?.();
  await turns();
  expect(asked).toHaveLength(3);
  expect(memory.held).toBe(full);
  socket.push(publish(4, 40_000).subarray(0, 20_000));
  await turns();
  expect(told).toEqual(['store']);
  expect(memory.held).toBe(full);
  await library.close();
});
