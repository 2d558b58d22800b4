import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { ErrorCode, Refusal } from '@tocsin/protocol/errors';
import type { HostReading, ProfileName } from '@tocsin/protocol/envelope';
import { RefusalError } from '@tocsin/protocol/refusal-error';
import { CodedError } from '../lib/coded-error.ts';
import { parseFrame } from '../profiles/host/frame.ts';
import type { EnvelopeAppend } from '../store/ports/log.ts';
import type { Standing } from '../store/ports/registry.ts';
import { createAppender } from './append.ts';
import { createDeviceCap } from './device-cap.ts';
import { findDevice } from './device.ts';
import { checkFrame, readFrame } from './frame.ts';
import { enrolHost, findHost } from './host-device.ts';
import { createIngest, type IngestAnswer } from './ingest.ts';
import { limitSize } from './size.ts';
import { type Draft, type IngestDevice, newDraft, type Stage } from './stage.ts';
import { ownTopic } from './topic.ts';

const NOW = 1_700_000_000_000;

function device(id: string, profile: ProfileName = 'host', standing: Standing = 'active'): IngestDevice {
  const nowhere = { zoneId: null, zoneNumber: null, latitude: null, longitude: null };
  return { id, number: 1, profile, ...nowhere, standing, exercise: false, key: null };
}

interface Bench {
  readonly send: (deviceId: string, payload: string | Buffer) => Promise<IngestAnswer>;
  readonly appended: EnvelopeAppend[];
  readonly enrolled: string[];
  readonly board: Set<string>;
  readonly known: Map<string, IngestDevice>;
  enrol: (id: string) => Promise<IngestDevice | null>;
  lookUp: (id: string) => IngestDevice | null;
  outcome: 'accepted' | 'replay';
  shed: boolean;
}

function bench(): Bench {
  const appended: EnvelopeAppend[] = [];
  const enrolled: string[] = [];
  const board = new Set<string>();
  const known = new Map<string, IngestDevice>();
  const appender = createAppender({
    append: async (envelopes) => {
      appended.push(...envelopes);
      return envelopes.map(() => self.outcome);
    },
    ...{ partitions: 16, committed: () => undefined, failed: () => undefined, overload: () => null },
    ...{ mostPending: 100, mostPendingBytes: 1e6, batch: 10, batchBytes: 1e5, concurrency: 2, mostWaitMs: 10_000 },
    monotonic: () => 0,
  });
  const cap = createDeviceCap({ has: (id) => board.has(id), size: () => board.size }, 3);
  const shed: Stage = () => (self.shed ? { code: 'overloaded', detail: 'x' } : null);
  const ingest = createIngest(
    [
      limitSize(500),
      readFrame(parseFrame),
      findHost((id) => self.lookUp(id)),
      checkFrame,
      cap.stage,
      shed,
      enrolHost((id) => self.enrol(id)),
      appender.stage,
    ],
    { accepted: () => undefined, rejected: () => undefined },
    (draft, through) => {
      if (through) board.add(draft.deviceId ?? '');
      cap.finished(draft);
    },
  );
  const self: Bench = {
    send: (topicDevice, payload) => {
      const body = Buffer.from(payload).toString('latin1');
      return ingest(newDraft('mqtt', 'frame', { body, topicDevice, apiKey: undefined, traceparent: null }, NOW));
    },
    appended,
    enrolled,
    board,
    known,
    lookUp: (id) => known.get(id) ?? null,
    enrol: async (id) => {
      enrolled.push(id);
      return device(id);
    },
    outcome: 'accepted',
    shed: false,
  };
  return self;
}

const frame = (id = 'h1', more: object = {}): string =>
  JSON.stringify({ device_id: id, timestamp: 1_700_000_000, cpu_percent: 1, mem_percent: 2, disk_percent: 3, ...more });
const codeOf = async (answer: Promise<IngestAnswer>): Promise<ErrorCode | 'accepted'> => {
  const found = await answer;
  return found.accepted ? 'accepted' : found.refusal.code;
};

describe('a frame', () => {
  test('becomes a record of its own kind, with an id made of its time and its content', async () => {
    const { send, appended } = bench();
    expect(await send('h1', frame())).toMatchObject({ accepted: true, readings: 1 });
    const [record] = appended;
    expect(record).toMatchObject({ deviceId: 'h1', kind: 'frame', receivedAt: NOW });
    expect(record?.envelopeId).toMatch(/^1700000000-[A-Za-z0-9_-]{16}$/);
    expect(JSON.parse(record?.body ?? '')).toEqual(record?.envelope);
    expect(record?.envelope).toMatchObject({ id: record?.envelopeId, at: 1_700_000_000_000, profile: 'host' });
  });

  test('has the same id as one that says the same, however it is written, and another than one that differs', async () => {
    const { send, appended } = bench();
    const same = [
      frame(),
      frame('h1', { gpu_percent: null }),
      frame('h1', { cpu_percent: 1.0 }).replaceAll(',', ' , '),
      frame('h1', { mem_percent: 2 }).replace('"disk_percent":3', '"disk_percent":3.0e0'),
    ];
    const others = [
      frame('h1', { cpu_percent: 1.5 }),
      frame('h1', { gpu_percent: 0 }),
      frame('h1', { timestamp: 1_700_000_001 }),
    ];
    for (const text of [...same, ...others]) await send('h1', text);
    const ids = appended.map(({ envelopeId }) => envelopeId);
    expect(new Set(ids.slice(0, same.length)).size).toBe(1);
    expect(new Set(ids).size).toBe(1 + others.length);
  });

  test('whose commit says that it is known is a replay', async () => {
    const self = bench();
    self.outcome = 'replay';
    expect(await codeOf(self.send('h1', frame()))).toBe('replay');
    expect(self.board.size).toBe(0);
  });

  test('is refused by the first rule that it breaks: size, form, standing, content, cap, load', async () => {
    const self = bench();
    self.known.set('h1', device('h1', 'host', 'revoked'));
    self.shed = true;
    for (const id of ['a', 'b', 'c']) self.board.add(id);
    const bad = frame('h1', { cpu_percent: true });
    expect(await codeOf(self.send('h1', `[${'x'.repeat(500)}`))).toBe('body-too-large');
    expect(await codeOf(self.send('h1', `${bad}x`))).toBe('malformed-json');
    expect(await codeOf(self.send('h1', bad))).toBe('device-revoked');
    self.known.set('h1', device('h1'));
    expect(await codeOf(self.send('h1', bad))).toBe('schema');
    expect(await codeOf(self.send('h1', frame()))).toBe('device-cap');
    self.board.delete('c');
    expect(await codeOf(self.send('h1', frame()))).toBe('overloaded');
    self.shed = false;
    expect(await codeOf(self.send('h1', frame()))).toBe('accepted');
  });

  test.each([
    ['inactive', 'device-inactive'],
    ['quarantined', 'device-quarantined'],
    ['blocked', 'device-blocked'],
    ['revoked', 'device-revoked'],
  ] as const)('of a device that is %s is refused', async (standing, code) => {
    const self = bench();
    self.known.set('h1', device('h1', 'host', standing));
    expect(await codeOf(self.send('h1', frame()))).toBe(code);
  });

  test('of a device of another kind breaks the schema at its id', async () => {
    const self = bench();
    self.known.set('h1', device('h1', 'seismic'));
    expect(await self.send('h1', frame())).toMatchObject({
      refusal: { code: 'schema', errors: [{ pointer: '/device_id', detail: 'is a device of another kind' }] },
    });
  });

  test('in bytes that are not UTF-8 is malformed, of as many bytes as there may be it is not too large', async () => {
    const { send } = bench();
    const text = frame();
    const bytes = Buffer.from(text);
    for (const wrong of [[0xff], [0xc3], [0xed, 0xa0, 0x80], [0xc0, 0x80]])
      expect(await codeOf(send('h1', Buffer.concat([bytes, Buffer.from(wrong)])))).toBe('malformed-json');
    expect(await codeOf(send('h1', text.padEnd(500)))).toBe('accepted');
    expect(await codeOf(send('h1', text.padEnd(501)))).toBe('body-too-large');
    expect(await codeOf(send('h1', frame('h1', { é: 1 })))).toBe('schema');
  });

  test('of whatever bytes is answered', async () => {
    const { send } = bench();
    const bytes = fc.uint8Array({ maxLength: 64 }).map((array) => Buffer.from(array));
    await fc.assert(
      fc.asyncProperty(bytes, async (payload) => {
        expect(['malformed-json', 'schema']).toContain(await codeOf(send('h1', payload)));
      }),
    );
  });
});

describe('a host that nobody registered', () => {
  test('is enrolled by its first good frame, not by one that is refused', async () => {
    const self = bench();
    await self.send('h1', frame('h2'));
    await self.send('h1', 'x');
    self.shed = true;
    await self.send('h1', frame());
    expect(self.enrolled).toEqual([]);
    self.shed = false;
    expect(await codeOf(self.send('h1', frame()))).toBe('accepted');
    expect(self.enrolled).toEqual(['h1']);
  });

  test('is refused when there is no room, when it may not speak, and while the store is away', async () => {
    const self = bench();
    self.enrol = async () => null;
    expect(await codeOf(self.send('h1', frame()))).toBe('device-cap');
    self.enrol = async (id) => device(id, 'host', 'revoked');
    expect(await codeOf(self.send('h1', frame()))).toBe('device-revoked');
    self.enrol = async (id) => device(id, 'mobile');
    expect(await codeOf(self.send('h1', frame()))).toBe('schema');
    self.enrol = () => Promise.reject(new RefusalError({ code: 'overloaded', detail: 'x', retryAfterMs: 1 }));
    expect(await codeOf(self.send('h1', frame()))).toBe('overloaded');
    self.enrol = () => Promise.reject(new CodedError('store-unavailable', 'x'));
    expect(await codeOf(self.send('h1', frame()))).toBe('store-unavailable');
    expect(self.appended).toEqual([]);
  });

  test('has no key, so a signed envelope in its name is of an unknown device', () => {
    const draft = { deviceId: 'h1' } as Draft;
    expect(findDevice((id) => device(id))(draft)).toMatchObject({ code: 'device-unknown' });
    expect(findDevice((id) => device(id, 'host', 'revoked'))(draft)).toMatchObject({ code: 'device-unknown' });
  });
});

describe('a line that keeps the order', () => {
  const line = (
    append: (envelopes: readonly EnvelopeAppend[]) => Promise<'accepted'[]>,
    clock: { time: number },
  ): ((id: string) => Promise<Refusal | null>) => {
    const { stage } = createAppender({
      append,
      ...{ partitions: 16, committed: () => undefined, failed: () => undefined, overload: () => null },
      ...{ mostPending: 100, mostPendingBytes: 1e6, batch: 2, batchBytes: 1e5, mostWaitMs: 1000 },
      ...{ concurrency: 1, inOrder: true, monotonic: () => clock.time },
    });
    return async (id) => {
      const draft = newDraft('mqtt', 'frame', { body: id, apiKey: undefined, traceparent: null }, NOW);
      const envelope = { id, at: 1, profile: 'host' as const, readings: [] };
      return stage(Object.assign(draft, { device: device('h1'), identity: id, envelope }));
    };
  };
  const codes = (answers: readonly (Refusal | null)[]): unknown[] => answers.map((answer) => answer?.code);

  test('commits one batch after the other; when one fails, all that wait are to come again with it', async () => {
    const batches: string[][] = [];
    let fail = false;
    const enter = line(
      async (envelopes) => {
        batches.push(envelopes.map(({ envelopeId }) => envelopeId));
        await new Promise((resolve) => setImmediate(resolve));
        if (fail) throw new Error('away');
        return envelopes.map(() => 'accepted');
      },
      { time: 0 },
    );
    expect(await Promise.all(['1', '2', '3'].map(enter))).toEqual([null, null, null]);
    fail = true;
    const failed = await Promise.all(['4', '5', '6', '7', '8'].map(enter));
    expect(codes(failed)).toEqual(failed.map(() => 'store-unavailable'));
    fail = false;
    expect(await Promise.all(['4', '5', '6'].map(enter))).toEqual([null, null, null]);
    expect(batches).toEqual([['1', '2'], ['3'], ['4', '5'], ['4', '5'], ['6']]);
  });

  test('refuses all that wait when the first of them has waited for too long', async () => {
    const clock = { time: 0 };
    const batches: string[][] = [];
    let commit = (): void => undefined;
    const enter = line((envelopes) => {
      batches.push(envelopes.map(({ envelopeId }) => envelopeId));
      return new Promise((resolve) => {
        commit = () => resolve(envelopes.map(() => 'accepted'));
      });
    }, clock);
    const first = enter('1');
    await new Promise((resolve) => setImmediate(resolve));
    const old = enter('2');
    clock.time = 900;
    const young = ['3', '4'].map(enter);
    clock.time = 1100;
    commit();
    expect(await first).toBeNull();
    expect(codes(await Promise.all([old, ...young]))).toEqual(Array(3).fill('store-unavailable'));
    expect(batches).toEqual([['1']]);
  });
});

describe('the cap of hosts', () => {
  test('lets in exactly as many as there is room for, of however many that come in one moment', async () => {
    const self = bench();
    self.board.add('h0');
    const answers = await Promise.all(
      ['h0', 'h1', 'h2', 'h3', 'h1', 'h4', 'h0'].map((id) => codeOf(self.send(id, frame(id)))),
    );
    expect(answers).toEqual(['accepted', 'accepted', 'accepted', 'device-cap', 'accepted', 'device-cap', 'accepted']);
    expect([...self.board]).toEqual(['h0', 'h1', 'h2']);
  });

  test('gives a place back when the frame that held it comes to nothing', async () => {
    const self = bench();
    self.board.add('h0').add('h1');
    self.outcome = 'replay';
    for (let i = 0; i < 5; i += 1) expect(await codeOf(self.send(`x${i}`, frame(`x${i}`)))).toBe('replay');
    self.enrol = () => Promise.reject(new Error('no'));
    await expect(self.send('y', frame('y'))).rejects.toThrow('no');
    self.enrol = async (id) => device(id);
    self.outcome = 'accepted';
    expect(await codeOf(self.send('h2', frame('h2')))).toBe('accepted');
    expect(await codeOf(self.send('h3', frame('h3')))).toBe('device-cap');
  });
});

describe('an envelope on a topic', () => {
  test('is of the device that the topic names', () => {
    const draft = newDraft('mqtt', 'envelope', { body: '', topicDevice: 'a', apiKey: undefined, traceparent: null }, 0);
    expect(ownTopic(Object.assign(draft, { deviceId: 'a' }))).toBeNull();
    expect(ownTopic(Object.assign(draft, { deviceId: 'b' }))).toMatchObject({ code: 'device-mismatch' });
  });
});

test('a reading’s numbers are those of the frame', () => {
  const found = parseFrame(frame('h1', { cpu_percent: -0, timestamp: 0 }), 'h1');
  const reading: HostReading | null = found.kind === 'frame' ? found.reading : null;
  expect(Object.is(reading?.cpu_percent, 0)).toBe(true);
  expect(reading?.at).toBe(0);
});
