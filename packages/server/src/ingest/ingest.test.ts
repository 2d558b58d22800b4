import { generateKeyPairSync, sign } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, test, vi } from 'vitest';
import type { ErrorCode } from '@tocsin/protocol/errors';
import { hostProfile } from '../profiles/host/host.ts';
import { mobileProfile } from '../profiles/mobile/mobile.ts';
import { seismicProfile } from '../profiles/seismic/seismic.ts';
import type { EnvelopeAppend } from '../store/ports/log.ts';
import type { Standing } from '../store/ports/registry.ts';
import { createAppender } from './append.ts';
import { authenticate } from './authenticate.ts';
import { findDevice } from './device.ts';
import { checkFreshness } from './freshness.ts';
import { createIngest, type Ingest, type IngestAnswer } from './ingest.ts';
import { parseJws } from './jws.ts';
import { limitDevice, limitKey } from './limit.ts';
import { checkSchema } from './schema.ts';
import { checkSignature, verifySignature } from './signature.ts';
import { type IngestDevice, newDraft } from './stage.ts';

const NOW = 1_700_000_000_000;
const good = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const other = generateKeyPairSync('ec', { namedCurve: 'P-256' });

interface Bench {
  readonly ingest: Ingest;
  readonly appended: EnvelopeAppend[];
  readonly rejected: string[];
  limited: boolean;
  standing: Standing;
  exercise: boolean;
  outcome: 'accepted' | 'replay' | 'id-conflict' | Error;
  overloaded: boolean;
  time: number;
  /** Commits wait for it. */
  held: Promise<void>;
  readonly pending: () => number;
}

function bench(): Bench {
  const appended: EnvelopeAppend[] = [];
  const rejected: string[] = [];
  const device = (id: string): IngestDevice | null =>
    id === 'd1' || id === 'keyless'
      ? {
          id,
          number: 1,
          profile: 'seismic',
          zoneId: 'z',
          zoneNumber: 4,
          latitude: 44.5,
          longitude: 11.25,
          standing: self.standing,
          exercise: self.exercise,
          key: id === 'keyless' ? null : good.publicKey,
        }
      : null;
  const seismic = seismicProfile({ windowMs: 10_000, liveMs: 60_000 });
  const appender = createAppender({
    append: async (envelopes) => {
      const { outcome } = self;
      await self.held;
      if (outcome instanceof Error) throw outcome;
      appended.push(...envelopes);
      return envelopes.map(() => outcome);
    },
    partitions: 16,
    committed: () => undefined,
    failed: () => undefined,
    overload: () => (self.overloaded ? { retryAfterMs: 3000 } : null),
    mostPending: 100,
    mostPendingBytes: 1e6,
    batch: 10,
    batchBytes: 1e5,
    concurrency: 2,
    mostWaitMs: 10_000,
    monotonic: () => self.time,
  });
  const limits = { perKey: 1, keyBurst: () => 1, perDevice: 1, global: null };
  const limiter = { take: () => ({ allowed: !self.limited, remaining: 0, retryAfterMs: self.limited ? 1500 : 0 }) };
  const ingest = createIngest(
    [
      authenticate((key) =>
        key === 'key' ? { id: 'k', scopes: ['ingest'] } : key === 'weak' ? { id: 'w', scopes: ['read'] } : null,
      ),
      limitKey(limiter, limits),
      parseJws(),
      limitDevice(limiter, limits),
      findDevice(device),
      checkSignature(verifySignature),
      checkSchema({ seismic: seismic.parse, host: hostProfile().parse, mobile: mobileProfile.parse }),
      checkFreshness(30_000),
      appender.stage,
    ],
    { accepted: () => undefined, rejected: (transport, reason) => void rejected.push(`${transport} ${reason}`) },
  );
  const self: Bench = {
    ingest,
    appended,
    rejected,
    limited: false,
    standing: 'active',
    exercise: false,
    outcome: 'accepted',
    overloaded: false,
    time: 0,
    held: Promise.resolve(),
    pending: () => appender.pending(),
  };
  return self;
}

const b64 = (value: unknown): string =>
  Buffer.from(typeof value === 'string' ? value : JSON.stringify(value)).toString('base64url');

function jws(payload: unknown, header: unknown = { alg: 'ES256', kid: 'd1' }, key = good.privateKey): string {
  const text = `${b64(header)}.${b64(payload)}`;
  return `${text}.${sign('sha256', Buffer.from(text), { key, dsaEncoding: 'ieee-p1363' }).toString('base64url')}`;
}

const envelope = (change: object = {}): object => ({
  id: 'e1',
  at: NOW,
  profile: 'seismic',
  readings: [{ at: NOW, value: 3 }],
  ...change,
});

function send(self: Bench, body: string, apiKey: string | undefined = 'key'): Promise<IngestAnswer> {
  return self.ingest(newDraft('http', 'envelope', { traceparent: null, apiKey, body }, NOW));
}

async function codeOf(self: Bench, body: string, apiKey?: string): Promise<ErrorCode | 'accepted'> {
  const answer = await send(self, body, apiKey);
  return answer.accepted ? 'accepted' : answer.refusal.code;
}

describe('ingest', () => {
  test('an envelope of a host that nobody registered is one of an unknown device, whatever its standing', async () => {
    const self = bench();
    for (const standing of ['active', 'inactive', 'revoked', 'blocked'] as const) {
      self.standing = standing;
      const body = jws(envelope(), { alg: 'ES256', kid: 'keyless' });
      expect(await codeOf(self, body)).toBe('device-unknown');
    }
    expect(self.appended).toEqual([]);
  });

  test('a good envelope is appended as it arrived and answered with its id and count', async () => {
    const self = bench();
    const body = jws(
      envelope({
        readings: [
          { at: NOW, value: 3 },
          { value: -1, at: NOW - 5 },
        ],
      }),
    );
    expect(await send(self, body)).toEqual({ accepted: true, id: 'e1', readings: 2 });
    expect(self.appended).toHaveLength(1);
    expect(self.appended[0]).toMatchObject({
      deviceId: 'd1',
      envelopeId: 'e1',
      body,
      context: { device: 1, zone: 4, zoneId: 'z', place: { latitude: 44.5, longitude: 11.25 } },
    });
    expect(self.appended[0]?.context).not.toHaveProperty('exercise');
  });

  test('the record of a simulated device says that it is one', async () => {
    const self = bench();
    self.exercise = true;
    expect(await send(self, jws(envelope()))).toMatchObject({ accepted: true });
    expect(self.appended[0]?.context).toEqual({
      ...{ device: 1, zone: 4, zoneId: 'z', exercise: true },
      place: { latitude: 44.5, longitude: 11.25 },
    });
  });

  test('of several faults the one that comes first in the contract is told', async () => {
    const self = bench();
    self.outcome = 'replay';
    const steps: [string, ErrorCode, () => void][] = [
      ['unknown key', 'api-key-unknown', () => undefined],
      ['limit', 'rate-limited', () => (key = 'key')],
      ['form', 'malformed-jws', () => (self.limited = false)],
      [
        'unknown device',
        'device-unknown',
        () => (body = () => jws('[]', { alg: 'ES256', kid: 'nobody' }, other.privateKey)),
      ],
      ['revoked', 'device-revoked', () => (body = () => jws('[]', undefined, other.privateKey))],
      ['blocked', 'device-blocked', () => (self.standing = 'blocked')],
      ['signature', 'signature-invalid', () => (self.standing = 'active')],
      ['schema', 'schema', () => (body = () => jws({ ...envelope(), at: 1, extra: 1 }))],
      ['time', 'envelope-stale', () => (body = () => jws({ ...envelope(), at: 1 }))],
      ['overload', 'overloaded', () => (body = () => jws(envelope()))],
      ['replay', 'replay', () => (self.overloaded = false)],
    ];
    let key = 'nonsense';
    let body = (): string => 'no jws';
    self.limited = true;
    self.standing = 'revoked';
    self.overloaded = true;
    for (const [name, code, mend] of steps) {
      mend();
      expect([name, await codeOf(self, body(), key)]).toEqual([name, code]);
    }
    expect(self.rejected).toEqual(steps.map(([, code]) => `http ${code}`));
  });

  test('the header may hold alg and kid in any order and nothing else', async () => {
    const self = bench();
    expect(await codeOf(self, jws(envelope(), { kid: 'd1', alg: 'ES256' }))).toBe('accepted');
    const refused: unknown[] = [
      { alg: 'none', kid: 'd1' },
      { alg: 'HS256', kid: 'd1' },
      { alg: 'ES256' },
      { alg: 'ES256', kid: 'd1', typ: 'JWT' },
      { alg: 'ES256', kid: 'd1', crit: ['b64'], b64: false },
      { alg: 'ES256', kid: '../etc' },
      { alg: 'ES256', kid: 5 },
      ['ES256', 'd1'],
      null,
      '"x"',
      'no json',
    ];
    for (const header of refused) expect(await codeOf(self, jws(envelope(), header))).toBe('malformed-jws');
  });

  test('a payload that is not JSON or not UTF-8 is refused before the signature is looked at', async () => {
    const self = bench();
    expect(await codeOf(self, `${b64({ alg: 'ES256', kid: 'd1' })}.${b64('{')}.AAAA`)).toBe('malformed-json');
    expect(
      await codeOf(self, `${b64({ alg: 'ES256', kid: 'd1' })}.${Buffer.from([0xff, 0xfe]).toString('base64url')}.AAAA`),
    ).toBe('malformed-jws');
  });

  test('a DER signature is as good as r||s', async () => {
    const text = `${b64({ alg: 'ES256', kid: 'd1' })}.${b64(envelope())}`;
    const der = sign('sha256', Buffer.from(text), good.privateKey).toString('base64url');
    expect(await codeOf(bench(), `${text}.${der}`)).toBe('accepted');
  });

  test.each([
    ['no object', '[1]', ''],
    ['an unknown key', envelope({ more: 1 }), '/more'],
    ['a bad id', envelope({ id: 'a b' }), '/id'],
    ['another profile', envelope({ profile: 'host' }), '/profile'],
    ['no profile', envelope({ profile: 'nonsense' }), '/profile'],
    ['no reading', envelope({ readings: [] }), '/readings'],
    [
      'too many readings',
      envelope({ readings: Array.from({ length: 501 }, () => ({ at: NOW, value: 1 })) }),
      '/readings',
    ],
    ['a text for a number', envelope({ readings: [{ at: NOW, value: '3' }] }), '/readings/0/value'],
    ['an unknown key in a reading', envelope({ readings: [{ at: NOW, value: 3, x1: 1 }] }), '/readings/0/x1'],
    ['a reading too far ahead', envelope({ readings: [{ at: NOW + 30_001, value: 3 }] }), '/readings/0/at'],
    ['a reading too far back', envelope({ readings: [{ at: NOW - 7 * 86_400_000 - 1, value: 3 }] }), '/readings/0/at'],
    [
      'one bad reading among good ones',
      envelope({ readings: [{ at: NOW, value: 3 }, { at: NOW }] }),
      '/readings/1/value',
    ],
    [
      'axes of other lengths',
      envelope({ readings: [{ at: NOW, rate: 31.25, x: [1, 2], y: [1], z: [1, 2] }] }),
      '/readings/0',
    ],
    ['a packet without axes', envelope({ readings: [{ at: NOW, rate: 31.25 }] }), '/readings/0/x'],
    ['a packet of rate 0', envelope({ readings: [{ at: NOW, rate: 0, x: [1], y: [1], z: [1] }] }), '/readings/0/rate'],
    ['too many samples', envelope({ readings: [{ at: NOW, rate: 31, x: Array(1001).fill(0) }] }), '/readings/0/x'],
    [
      'an infinite number',
      JSON.stringify(envelope({ readings: [{ at: NOW, value: 7777 }] })).replace('7777', '1e999'),
      '/readings/0/value',
    ],
  ])('the schema refuses %s and names the place', async (_name, payload, pointer) => {
    const answer = await send(bench(), jws(payload));
    expect(answer.accepted ? null : answer.refusal).toMatchObject({ code: 'schema' });
    expect(answer.accepted ? [] : answer.refusal.errors?.map((error) => error.pointer)).toContain(pointer);
  });

  test('freshness holds on both sides, ends included', async () => {
    const self = bench();
    expect(await codeOf(self, jws(envelope({ at: NOW - 30_000 })))).toBe('accepted');
    expect(await codeOf(self, jws(envelope({ at: NOW + 30_000 })))).toBe('accepted');
    expect(await codeOf(self, jws(envelope({ at: NOW - 30_001 })))).toBe('envelope-stale');
    expect(await codeOf(self, jws(envelope({ at: NOW + 30_001 })))).toBe('envelope-future');
  });

  test('a key without the scope, and a missing key, are told apart', async () => {
    expect(await codeOf(bench(), jws(envelope()), 'weak')).toBe('scope-insufficient');
    expect(await codeOf(bench(), jws(envelope()), '')).toBe('api-key-missing');
  });

  test('a commit that fails refuses every envelope in it and says when to come again', async () => {
    const self = bench();
    self.outcome = new Error('gone');
    const answers = await Promise.all([1, 2, 3].map((i) => send(self, jws(envelope({ id: `e${i}` })))));
    for (const answer of answers) {
      expect(answer).toMatchObject({ accepted: false, refusal: { code: 'store-unavailable', retryAfterMs: 1000 } });
    }
  });

  test('an envelope that has waited too long for its commit is refused and never written', async () => {
    const self = bench();
    let release = (): void => undefined;
    self.held = new Promise((resolve) => {
      release = resolve;
    });
    const answers: Promise<IngestAnswer>[] = [];
    for (const id of ['first', 'second', 'late']) {
      answers.push(send(self, jws(envelope({ id }))));
      await vi.waitFor(() => expect(self.pending()).toBe(answers.length));
      // A turn later its commit has begun, if there is one free.
      await new Promise((resolve) => setImmediate(resolve));
    }
    self.time = 10_001;
    release();
    expect((await Promise.all(answers)).map(({ accepted }) => accepted)).toEqual([true, true, false]);
    expect(self.appended.map(({ envelopeId }) => envelopeId)).toEqual(['first', 'second']);
    expect(self.pending()).toBe(0);
  });

  test('equal content has an equal digest whatever the order of keys, time and signature', async () => {
    const self = bench();
    await send(self, jws({ readings: [{ value: 3, at: NOW }], profile: 'seismic', at: NOW - 9, id: 'e1' }));
    await send(self, jws(envelope()));
    await send(self, jws(envelope({ readings: [{ at: NOW, value: 4 }] })));
    const [a, b, c] = self.appended.map(({ digest }) => digest.toString('hex'));
    expect(a).toBe(b);
    expect(a).not.toBe(c);
  });

  test('no text makes it throw', async () => {
    const self = bench();
    const part = fc.oneof(
      fc.string(),
      fc.base64String(),
      fc.constant(b64({ alg: 'ES256', kid: 'd1' })),
      fc.json().map(b64),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(part, { maxLength: 4 }), async (parts) => {
        expect((await send(self, parts.join('.'))).accepted).toBe(false);
      }),
    );
  });
});
