/** Frames that break RFC 6455, each on a connection of its own, against a server process. */
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { type AbuseSystem, startAbuseSystem } from './abuse-system.suite.ts';
import { closeFrame, type FrameShape, frameOf, type RawWebSocket } from './raw-websocket.ts';

let system: AbuseSystem;
beforeAll(async () => {
  system = await startAbuseSystem();
});
afterEach(() => system.unharmed());
afterAll(() => system?.stop());

const PING = '{"type":"ping"}';
const CONTROLS = [8, 9, 10];
const RESERVED = [3, 4, 5, 6, 7, 11, 12, 13, 14, 15];

/** Opens a connection, writes, and expects the close code; what came before is whole frames, and the socket ends. */
async function expectClose(code: number | null, ...writes: readonly Buffer[]): Promise<RawWebSocket> {
  const peer = await system.attack();
  expect(peer.status).toBe(101);
  await peer.until(() => peer.messages().some(({ type }) => type === 'welcome'));
  for (const bytes of writes) peer.write(bytes);
  expect([writes.map((bytes) => bytes.subarray(0, 12).toString('hex')), await peer.closeCode()]).toEqual([
    writes.map((bytes) => bytes.subarray(0, 12).toString('hex')),
    code,
  ]);
  peer.socket.end();
  await peer.ended;
  expect(peer.broken()).toBe(false);
  return peer;
}

describe("a frame that no client may send ends its connection and nobody else's", () => {
  const wrong: readonly (readonly [string, number, FrameShape, Buffer | string])[] = [
    ['without a mask', 1002, { masked: false }, PING],
    ['without a mask, empty', 1002, { masked: false, opcode: 9 }, ''],
    ...[1, 2, 3, 4, 7].map((rsv): [string, number, FrameShape, string] => [`with RSV ${rsv}`, 1002, { rsv }, PING]),
    ...[1, 2, 4].map((rsv): [string, number, FrameShape, string] => [
      `a ping with RSV ${rsv}`,
      1002,
      { rsv, opcode: 9 },
      '',
    ]),
    ...RESERVED.map((opcode): [string, number, FrameShape, string] => [
      `with opcode ${opcode}`,
      1002,
      { opcode },
      PING,
    ]),
    ...CONTROLS.map((opcode): [string, number, FrameShape, string] => [
      `a fragment of control frame ${opcode}`,
      1002,
      { opcode, fin: false },
      '',
    ]),
    ...CONTROLS.map((opcode): [string, number, FrameShape, Buffer] => [
      `a control frame ${opcode} of 126 bytes`,
      1002,
      { opcode },
      Buffer.alloc(126, 'x'),
    ]),
    ['a continuation of nothing', 1002, { opcode: 0 }, PING],
    ['a last continuation of nothing, empty', 1002, { opcode: 0 }, ''],
    ['UTF-8 that ends early', 1007, {}, Buffer.from('{"type":"ping"}\u20ac').subarray(0, -1)],
    ['UTF-8 of a lone surrogate', 1007, {}, Buffer.from([0x22, 0xed, 0xa0, 0x80, 0x22])],
    ['UTF-8 that is too long for its character', 1007, {}, Buffer.from([0xc0, 0xaf])],
    ['UTF-8 above U+10FFFF', 1007, {}, Buffer.from([0xf4, 0x90, 0x80, 0x80])],
  ];
  test.each(wrong)('%s: %i', async (_, code, shape, payload) => {
    await expectClose(code, frameOf(payload, shape));
  });
});

describe('a close frame', () => {
  test.each([0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65_535])('with the code %i is 1002', async (code) => {
    await expectClose(1002, closeFrame(code));
  });

  test.each([1000, 1001, 1011, 3000, 4999])('with the code %i is answered with the same', async (code) => {
    await expectClose(code, closeFrame(code, 'bye'));
  });

  test('of one byte is 1002, of a reason that is no UTF-8 1007, without a code none', async () => {
    await expectClose(1002, frameOf('x', { opcode: 8 }));
    await expectClose(1007, closeFrame(1000, Buffer.from([0xff, 0xfe])));
    await expectClose(null, frameOf('', { opcode: 8 }));
  });

  test('is the last thing that counts: what follows it is not answered', async () => {
    const pings = Array.from({ length: 50 }, () => frameOf(PING));
    const peer = await expectClose(1000, Buffer.concat([closeFrame(1000), ...pings, frameOf('{', { rsv: 7 })]));
    expect(peer.messages().map(({ type }) => type)).not.toContain('pong');
    expect(peer.frames.filter(({ opcode }) => opcode === 8)).toHaveLength(1);
  });

  test('of the server that is never answered ends with the socket all the same', { timeout: 40_000 }, async () => {
    const peer = await system.attack();
    peer.write(frameOf(PING, { rsv: 1 }));
    expect(await peer.closeCode()).toBe(1002);
    const second = await system.attack();
    for (let i = 0; i < 2; i += 1) second.write(frameOf('{'));
    expect(await second.closeCode()).toBe(1008);
    // Half closed by the server, and neither answered nor ended by the peer: within the wait for an answer, and a look.
    await Promise.all([peer.ended, second.ended]);
  });
});

describe('fragments', () => {
  const part = (text: Buffer | string, opcode: number, fin: boolean): Buffer => frameOf(text, { opcode, fin });

  test('make one message, also with pings between them, and with empty ones', async () => {
    const peer = await system.attack();
    const pieces = [
      part('{"type"', 1, false),
      frameOf('hi', { opcode: 9 }),
      part('', 0, false),
      part(':"ping"}', 0, true),
    ];
    for (const piece of pieces) peer.write(piece);
    await peer.until(() => peer.messages().some(({ type }) => type === 'pong'));
    expect(peer.frames.filter(({ opcode }) => opcode === 10).map(({ payload }) => payload.toString())).toEqual(['hi']);
    peer.socket.destroy();
  });

  test('of two messages at once are 1002', async () => {
    await expectClose(1002, part('{"type"', 1, false), part('{"type":"ping"}', 1, true));
    await expectClose(1002, part('{"type"', 1, false), part('x', 2, false));
  });

  test('with a broken character between them are one message; one that is never whole is 1007', async () => {
    const euro = Buffer.from('"\u20ac"');
    const peer = await system.attack();
    peer.write(part(euro.subarray(0, 2), 1, false));
    peer.write(part(euro.subarray(2), 0, true));
    await peer.until(() => peer.messages().some(({ type }) => type === 'error'));
    expect(peer.messages().at(-1)).toMatchObject({ type: 'error', code: 'schema' });
    peer.socket.destroy();
    await expectClose(1007, part(euro.subarray(0, 2), 1, false), part(euro.subarray(0, 2), 0, true));
  });

  test('too many, or too many bytes in all of them, end the connection before the last one came', async () => {
    const many = Array.from({ length: 100 }, (_, i) => part('x', i === 0 ? 1 : 0, false));
    await expectClose(1008, ...many);
    const empty = Array.from({ length: 2000 }, (_, i) => part('', i === 0 ? 1 : 0, false));
    await expectClose(1008, Buffer.concat(empty));
    await expectClose(1009, part('x'.repeat(9000), 1, false), part('x'.repeat(9000), 0, false));
  });

  test('that never go on hold one place and no memory, and go with the peer', async () => {
    const before = system.memory();
    const peers = await Promise.all(Array.from({ length: 15 }, () => system.attack()));
    for (const peer of peers) for (let i = 0; i < 60; i += 1) peer.write(part('x'.repeat(150), i === 0 ? 1 : 0, false));
    await system.alert();
    expect(system.memory() - before).toBeLessThan(60);
    for (const peer of peers) peer.socket.destroy();
  });
});

describe('a length in the header', () => {
  test.each([
    ['of 10,241 bytes', { claims: 10_241 }],
    ['of 65,535 bytes', { claims: 65_535 }],
    ['of 65,536 bytes, in eight', { claims: 65_536 }],
    ['of 2^40 bytes', { claims: 2n ** 40n }],
    ['of 2^53 bytes', { claims: 2n ** 53n }],
    ['of 2^63 bytes, which no length may be', { claims: 2n ** 63n }],
    ['of 2^64 - 1 bytes', { claims: 2n ** 64n - 1n }],
  ] as const)('%s is 1009 before any of them came', async (_, shape) => {
    const before = system.memory();
    await expectClose(1009, frameOf('', shape));
    expect(system.memory() - before).toBeLessThan(60);
  });

  test('is taken for what it says even in more bytes than it needs', async () => {
    for (const lengthBytes of [2, 8] as const) {
      const peer = await system.attack();
      peer.write(frameOf(PING, { lengthBytes }));
      await peer.until(() => peer.messages().some(({ type }) => type === 'pong'));
      peer.socket.destroy();
    }
  });

  test('that promises more than comes holds its place only as long as the peer is there', async () => {
    const peer = await system.attack();
    peer.write(frameOf('{"type"', { claims: 5000 }));
    peer.socket.end();
    await peer.ended;
  });
});
