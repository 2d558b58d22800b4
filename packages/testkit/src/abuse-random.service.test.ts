/** Any bytes behind a handshake, and any bytes instead of one: the process lives and no socket is kept. */
import fc from 'fast-check';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { type AbuseSystem, answers, startAbuseSystem } from './abuse-system.suite.ts';
import { openRaw } from './contract-client.suite.ts';
import { handshakeText } from './contract-viewer.ts';
import { frameOf } from './raw-websocket.ts';

let system: AbuseSystem;
beforeAll(async () => {
  system = await startAbuseSystem();
});
afterEach(() => system.unharmed());
afterAll(() => system?.stop());

const RUNS = Number(process.env['ABUSE_RUNS'] ?? '150');

const bytes = fc.uint8Array({ maxLength: 300 }).map((array) => Buffer.from(array));
/** A frame of any shape, most of its members right. */
const frame = fc
  .record({
    payload: fc.oneof(fc.constant(Buffer.from('{"type":"ping"}')), bytes),
    fin: fc.boolean(),
    rsv: fc.oneof({ weight: 8, arbitrary: fc.constant(0) }, { weight: 1, arbitrary: fc.integer({ min: 0, max: 7 }) }),
    opcode: fc.oneof({ weight: 4, arbitrary: fc.constantFrom(0, 1, 2, 8, 9, 10) }, fc.integer({ min: 0, max: 15 })),
    masked: fc.oneof({ weight: 9, arbitrary: fc.constant(true) }, fc.boolean()),
    extra: fc.oneof({ weight: 9, arbitrary: fc.constant(0) }, fc.integer({ min: -5, max: 100_000 })),
  })
  .map(({ payload, extra, ...shape }) => frameOf(payload, { ...shape, claims: Math.max(0, payload.length + extra) }));
const stream = fc.array(fc.oneof({ weight: 3, arbitrary: frame }, bytes), { maxLength: 12 });
const how = fc.constantFrom('end', 'reset', 'wait');

test('any stream of frames and bytes after the upgrade ends with its socket, and what is answered is whole frames', {
  timeout: 120_000,
}, async () => {
  await fc.assert(
    fc.asyncProperty(stream, how, async (pieces, end) => {
      const peer = await system.attack();
      expect(peer.status).toBe(101);
      for (const piece of pieces) peer.write(piece);
      if (end === 'wait') await peer.until(() => peer.messages().length > 0).catch(() => undefined);
      if (end === 'reset') peer.socket.resetAndDestroy();
      else peer.socket.end();
      await peer.ended;
      if (end !== 'reset') expect(peer.broken()).toBe(false);
    }),
    { numRuns: RUNS },
  );
  expect(await answers(system.base)).toBe(200);
});

test('any bytes in a handshake are answered by HTTP or not at all', { timeout: 120_000 }, async () => {
  const request = Buffer.from(handshakeText('/ws/alerts', { Authorization: `Bearer ${system.token}` }), 'latin1');
  const change = fc.record({ at: fc.nat(request.length - 1), byte: fc.integer({ min: 0, max: 255 }) });
  await fc.assert(
    fc.asyncProperty(fc.array(change, { minLength: 1, maxLength: 6 }), async (changes) => {
      const text = Buffer.from(request);
      for (const { at, byte } of changes) text[at] = byte;
      const raw = await openRaw(system.base);
      raw.write(text);
      raw.socket.end();
      await raw.closed;
      expect(raw.received()).toMatch(/^(HTTP\/1\.1 (101|4\d\d|503) |$)/);
    }),
    { numRuns: RUNS },
  );
  expect(await answers(system.base)).toBe(200);
});
