import { describe, expect, test } from 'vitest';
import type { ErrorCode, Refusal } from '@tocsin/protocol/errors';
import { throttled } from '../../ops/throttled-log.ts';
import { type ArrivedMessage, createMqttIntake, MOST_WAITING, refusedUnread } from './intake.ts';
import type { MqttVerdict } from './message.ts';

const ACKNOWLEDGE = { kind: 'acknowledge' };

interface Asked {
  readonly kind: string;
  readonly arrived: ArrivedMessage;
  readonly answer: (refusal?: Refusal | Error) => void;
}

function bench(): {
  readonly asked: Asked[];
  readonly refused: ErrorCode[];
  readonly lines: Record<string, unknown>[];
  time: number;
  readonly send: (topic: string, payload?: string | Buffer, traceparent?: string) => Promise<MqttVerdict>;
} {
  const asked: Asked[] = [];
  const refused: ErrorCode[] = [];
  const lines: Record<string, unknown>[] = [];
  const door =
    (kind: string) =>
    (arrived: ArrivedMessage): Promise<{ accepted: true } | { accepted: false; refusal: Refusal }> =>
      new Promise((resolve, reject) =>
        asked.push({
          kind,
          arrived,
          answer: (refusal) => {
            if (refusal instanceof Error) reject(refusal);
            else resolve(refusal === undefined ? { accepted: true } : { accepted: false, refusal });
          },
        }),
      );
  const take = createMqttIntake({
    frameTopic: 'devices/+/metrics',
    envelopeTopic: 'devices/+/readings',
    takeFrame: door('frame'),
    takeEnvelope: door('envelope'),
    refused: (reason) => refused.push(reason),
    lines: throttled(
      {
        warn: (fields, message) => void lines.push({ level: 'warn', ...fields, message }),
        error: (fields, message) => void lines.push({ level: 'error', ...fields, message }),
      },
      1000,
      { now: () => self.time, monotonic: () => self.time },
    ),
  });
  const self = {
    asked,
    refused,
    lines,
    time: 0,
    send: (topic: string, payload: string | Buffer = '{}', traceparent: string | null = null) =>
      take({ topic, payload: Buffer.from(payload), traceparent }),
  };
  return self;
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
const refusal = (code: ErrorCode, more: Partial<Refusal> = {}): Refusal => ({ code, detail: 'x', ...more });

describe('a message of MQTT', () => {
  test('goes by its topic to frames or envelopes, its bytes unchanged, and is acknowledged when it is durable', async () => {
    const { asked, send, lines } = bench();
    const bytes = Buffer.from([0, 0x7b, 0xff, 0xc3, 0xa9]);
    const frame = send('devices/a/metrics', bytes);
    const envelope = send('devices/b/readings', 'x.y.z', '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01');
    await turn();
    expect(asked.map(({ kind, arrived }) => [kind, arrived.topicDevice])).toEqual([
      ['frame', 'a'],
      ['envelope', 'b'],
    ]);
    expect(Buffer.from(asked[0]?.arrived.body ?? '', 'latin1')).toEqual(bytes);
    expect(asked[1]?.arrived.traceparent).toMatch(/^00-4bf92f3577b34da6a3ce929d0e0e4736-(?!00f067aa0ba902b7)/);
    for (const { answer } of asked) answer();
    expect(await Promise.all([frame, envelope])).toEqual([ACKNOWLEDGE, ACKNOWLEDGE]);
    expect(lines).toEqual([]);
  });

  test('with a trace that is none gets one of its own', async () => {
    const { asked, send } = bench();
    for (const trace of ['', 'x', '00-\0', 'a b c d']) void send('devices/a/metrics', '{}', trace);
    await turn();
    expect(asked[0]?.arrived.traceparent).toMatch(/^00-[0-9a-f]{32}-[0-9a-f]{16}-01$/);
  });

  test.each([
    ['devices/a', 'not-found'],
    ['', 'not-found'],
    ['devices/a/other', 'not-found'],
    ['devices//metrics', 'malformed-parameter'],
    ['devices/a b/metrics', 'malformed-parameter'],
    ['devices/<script>/readings', 'malformed-parameter'],
    [`devices/${'x'.repeat(65)}/metrics`, 'malformed-parameter'],
  ] as const)('on %j is acknowledged, counted and told, without its topic', async (topic, reason) => {
    const { asked, send, refused, lines } = bench();
    expect(await send(topic)).toEqual(ACKNOWLEDGE);
    expect(asked).toEqual([]);
    expect(refused).toEqual([reason]);
    const rule =
      reason === 'not-found'
        ? 'The topic fits neither MQTT_TOPIC (devices/+/metrics) nor MQTT_READINGS_TOPIC (devices/+/readings)'
        : 'The device in the topic must be 1 to 64 of A-Z a-z 0-9 . _ -';
    expect(lines).toEqual([{ level: 'warn', transport: 'mqtt', rule, reason, message: 'message refused' }]);
  });

  test('that was refused unread is told with the same rule, and with none where there is none to tell', () => {
    const told: unknown[] = [];
    const note = (_reason: string, fields: unknown): boolean => told.push(fields) > 0;
    const tell = refusedUnread({
      ...{ frameTopic: 'a/+', envelopeTopic: 'b/+', refused: () => undefined },
      lines: { warn: note, error: note },
    });
    tell('not-found', null);
    tell('malformed-parameter', null);
    tell('device-mismatch', 'h1');
    expect(told).toEqual([
      { transport: 'mqtt', rule: 'The topic fits neither MQTT_TOPIC (a/+) nor MQTT_READINGS_TOPIC (b/+)' },
      { transport: 'mqtt' },
      { transport: 'mqtt', deviceId: 'h1' },
    ]);
  });

  test('that is refused is acknowledged and told with places and rules, never with what may be of the payload', async () => {
    const { asked, send, lines, refused } = bench();
    const verdict = send('devices/a/metrics');
    await turn();
    const errors = [
      { pointer: '/cpu_percent', detail: 'must be a finite number from 0 to 100' },
      { pointer: '/My password is hunter2', detail: 'is not a known key' },
      { pointer: '/readings/0/at', detail: 'is missing' },
      { pointer: '', detail: 'must be an object' },
    ];
    asked[0]?.answer(refusal('schema', { errors }));
    expect(await verdict).toEqual(ACKNOWLEDGE);
    const violations = [
      '/cpu_percent must be a finite number from 0 to 100',
      '/… is not a known key',
      '/readings/0/at is missing',
      ' must be an object',
    ];
    const about = { kind: 'frame', deviceId: 'a' };
    expect(lines).toEqual([
      { level: 'warn', transport: 'mqtt', ...about, violations, reason: 'schema', message: 'message refused' },
    ]);
    // Ingest has counted it.
    expect(refused).toEqual([]);
  });

  test('that cannot be decided now is to come again, after as long as it was told', async () => {
    const codes = ['overloaded', 'store-unavailable', 'draining', 'starting'] as const;
    for (const code of codes) {
      const { asked, send } = bench();
      const verdict = send('devices/a/metrics');
      await turn();
      asked[0]?.answer(refusal(code, { retryAfterMs: 3000 }));
      expect(await verdict).toEqual({ kind: 'later', retryAfterMs: 3000 });
    }
  });

  test('that fails as nobody foresaw is to come again, and is told as an error', async () => {
    const { asked, send, lines, refused } = bench();
    const verdict = send('devices/a/metrics');
    await turn();
    asked[0]?.answer(new TypeError('no'));
    expect(await verdict).toEqual({ kind: 'later', retryAfterMs: 5000 });
    expect(refused).toEqual(['internal']);
    expect(lines.map(({ level }) => level)).toEqual(['error']);
  });

  test('is told of in one line a second for each reason; the second delivery of a frame in none', async () => {
    const self = bench();
    const refuse = async (kind: string, code: ErrorCode): Promise<void> => {
      const verdict = self.send(`devices/a/${kind}`);
      await turn();
      self.asked.at(-1)?.answer(refusal(code));
      expect(await verdict).toEqual(ACKNOWLEDGE);
    };
    for (let i = 0; i < 5; i += 1) await refuse('metrics', 'schema');
    await refuse('metrics', 'device-revoked');
    await refuse('metrics', 'replay');
    await refuse('readings', 'replay');
    expect(self.lines.map(({ reason, kind }) => [kind, reason])).toEqual([
      ['frame', 'schema'],
      ['frame', 'device-revoked'],
      ['envelope', 'replay'],
    ]);
    self.time = 1001;
    await refuse('metrics', 'schema');
    expect(self.lines.at(-1)).toMatchObject({ reason: 'schema', leftOut: 4 });
  });
});

describe('messages of one device', () => {
  test('are taken in one after the other, in the order of arrival, whatever their topics; those of others do not wait', async () => {
    const { asked, send } = bench();
    const done: string[] = [];
    const sent = ['a/metrics', 'a/readings', 'a/metrics', 'b/metrics'].map((topic, i) =>
      send(`devices/${topic}`, `${i}`).then(() => done.push(`${i}`)),
    );
    const bodies = (): string[] => asked.map(({ arrived }) => arrived.body);
    await turn();
    expect(bodies()).toEqual(['0', '3']);
    asked[0]?.answer(refusal('schema'));
    await turn();
    expect(bodies()).toEqual(['0', '3', '1']);
    asked[2]?.answer();
    await turn();
    expect(bodies()).toEqual(['0', '3', '1', '2']);
    asked[3]?.answer();
    asked[1]?.answer();
    await Promise.all(sent);
    expect(done.filter((i) => i !== '3')).toEqual(['0', '1', '2']);
  });

  test('begin as soon as the one before stands in the line for the log, whatever becomes of it there', async () => {
    const { asked, send } = bench();
    const sent = [1, 2, 3].map((i) => send('devices/a/metrics', `${i}`));
    for (let i = 0; i < 3; i += 1) {
      await turn();
      expect(asked).toHaveLength(i + 1);
      asked[i]?.arrived.entered();
    }
    asked[0]?.answer(refusal('store-unavailable'));
    asked[2]?.answer();
    asked[1]?.answer();
    expect((await Promise.all(sent)).map(({ kind }) => kind)).toEqual(['later', 'acknowledge', 'acknowledge']);
  });

  test('that wait behind one that is to come again are to come again too, untried; what comes after that is tried', async () => {
    const { asked, send, lines } = bench();
    const sent = [1, 2, 3].map((i) => send('devices/a/metrics', `${i}`));
    await turn();
    asked[0]?.answer(refusal('store-unavailable', { retryAfterMs: 1000 }));
    const later = { kind: 'later', retryAfterMs: 1000 };
    expect(await Promise.all(sent)).toEqual([later, later, later]);
    expect(asked).toHaveLength(1);
    expect(lines).toHaveLength(1);
    const again = [1, 2].map((i) => send('devices/a/metrics', `${i}`));
    await turn();
    asked[1]?.answer();
    await turn();
    asked[2]?.answer();
    expect(await Promise.all(again)).toEqual([ACKNOWLEDGE, ACKNOWLEDGE]);
  });

  test('wait up to a bound; above it they are to come again, and others still pass', async () => {
    const { asked, send, refused } = bench();
    const sent = Array.from({ length: MOST_WAITING + 1 }, () => send('devices/a/metrics'));
    expect(await send('devices/a/metrics')).toEqual({ kind: 'later', retryAfterMs: 1000 });
    expect(refused).toEqual(['overloaded']);
    void send('devices/b/metrics');
    await turn();
    expect(asked).toHaveLength(2);
    asked[0]?.answer(refusal('overloaded'));
    await Promise.all(sent);
    const large = Array.from({ length: 300 }, () => send('devices/c/metrics', Buffer.alloc(262_144)));
    const verdicts = await Promise.all(large.slice(200));
    expect(new Set(verdicts.map(({ kind }) => kind))).toEqual(new Set(['later']));
  });
});
