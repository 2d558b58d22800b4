import { EventEmitter } from 'node:events';
import type { Socket } from 'node:net';
import { expect, test } from 'vitest';
import { createPeers } from './embedded-peers.ts';

class FakeSocket extends EventEmitter {
  readonly remoteAddress: string;
  readonly remotePort: number;
  destroyed = false;

  constructor(remoteAddress: string, remotePort: number) {
    super();
    this.remoteAddress = remoteAddress;
    this.remotePort = remotePort;
  }

  destroy(): void {
    this.destroyed = true;
    this.emit('close');
  }
}

test('addresses full of peers that say nothing do not keep another address out, and lose their oldest for it', () => {
  const peers = createPeers(
    () => 0,
    () => false,
  );
  let port = 0;
  const come = (address: string): FakeSocket | null => {
    const socket = new FakeSocket(address, ++port);
    return peers.enter(socket as unknown as Socket) ? socket : null;
  };
  const silent = Array.from({ length: 2000 }, (_, index) => come(index < 1000 ? '192.0.2.1' : '192.0.2.2'));
  expect(silent).not.toContain(null);
  expect(come('192.0.2.1')).toBeNull();
  const others = Array.from({ length: 600 }, () => come('192.0.2.3'));
  expect(others).not.toContain(null);
  expect(others.some((socket) => socket?.destroyed)).toBe(false);
  expect(silent.filter((socket) => socket?.destroyed)).toHaveLength(600);
  expect(silent[0]?.destroyed).toBe(true);
  expect(silent[999]?.destroyed).toBe(false);
  // Until all three have as many.
  const more = Array.from({ length: 600 }, () => come('192.0.2.3')).filter((socket) => socket !== null);
  expect(more).toHaveLength(66);
  expect(peers.size).toBe(2000);
  for (const socket of [...silent, ...others, ...more]) if (socket?.destroyed === false) socket.destroy();
  expect(peers.size).toBe(0);
  expect(come('192.0.2.1')).not.toBeNull();
});
