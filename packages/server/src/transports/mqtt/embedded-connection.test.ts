import { Duplex } from 'node:stream';
import type { Socket } from 'node:net';
import { expect, test } from 'vitest';
import { Connection, type ConnectionHome } from './embedded-connection.ts';
import { createLibrary } from './embedded-library.ts';
import { connectPacket, movedClock, publishPacket } from './embedded-system.suite.ts';

/** A socket whose other end has stopped reading: what is written stays. */
class StuckSocket extends Duplex {
  override _read(): void {
    // What comes is pushed.
  }

  override _write(): void {
    // Never taken.
  }
}

test('a client that does not read its answers is not read either, and is cut after ten seconds', async () => {
  const clock = movedClock();
  const library = await createLibrary(() => undefined);
  const told: string[] = [];
  let rejected = 0;
  const opened = new Promise<void>((resolve) => {
    const home: ConnectionHome = {
      options: {
        clock,
        take: async () => ({ kind: 'acknowledge' }),
        metrics: {
          connections: () => undefined,
          refused: () => undefined,
          ended: () => undefined,
          banned: () => undefined,
          rejected: () => void (rejected += 1),
        },
      },
      deviceOf: () => null,
      memory: { held: 0 },
      admit: async () => ({ kind: 'key', id: 'k', text: '' }),
      open: (connection_, stream) => library.open(connection_, stream),
      opened: () => resolve(),
      refused: (_connection, reason) => void told.push(reason),
      ended: (_connection, _who, reason) => void told.push(reason),
    };
    const socket = new StuckSocket();
    connection = new Connection(
      socket as unknown as Socket,
      { name: 'x', address: 'x', key: 'x', at: clock.monotonic() },
      home,
    );
    stuck = socket;
  });
  stuck.push(connectPacket('stuck'));
  await opened;
  const many = Array.from({ length: 20_000 }, (_, index) => publishPacket('no/topic', '', { id: index + 1 }));
  stuck.push(Buffer.concat(many));
  let before = -1;
  while (rejected !== before) {
    before = rejected;
    for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setImmediate(resolve));
  }
  // 16 KiB of answers of four bytes, and a window.
  expect(rejected).toBeGreaterThan(32);
  expect(rejected).toBeLessThanOrEqual(4096 + 32);
  connection.upkeep(clock.monotonic());
  clock.move(10_000);
  connection.upkeep(clock.monotonic());
  expect(told).toEqual([]);
  clock.move(1);
  connection.upkeep(clock.monotonic());
  expect(told).toEqual(['slow']);
  await library.close();
});

let connection: Connection;
let stuck: StuckSocket;
