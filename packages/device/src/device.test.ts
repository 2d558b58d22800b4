import { verify } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { TimeSample } from './clock.ts';
import { type Device, type DeviceOptions, openDevice } from './device.ts';
import type { DeviceState } from './device-state.ts';
import { createFakeTime, type FakeTime } from './fake-time.suite.ts';
import type { Sender } from './sender.ts';
import { accepted, problem, type ScriptedServer, startScripted } from './scripted-server.suite.ts';

const START = Date.UTC(2026, 10, 28, 12, 0, 0);
const KEY = 'tsk_a-secret-key';
let folder = '';
let server: ScriptedServer;
let time: FakeTime;
const devices = new Set<Device>();

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'tocsin-device-'));
  server = await startScripted();
  time = createFakeTime(START);
});
afterEach(async () => {
  for (const device of devices) await device.close();
  devices.clear();
  await server.stop();
  rmSync(folder, { recursive: true, force: true });
});

async function open(more: Partial<DeviceOptions> = {}): Promise<Device> {
  const base = {
    server: server.base,
    apiKey: KEY,
    id: 'm1',
    profile: 'seismic',
    folder,
    time,
    random: () => 0.5,
  } as const;
  const device = await openDevice({ ...base, ...more });
  devices.add(device);
  return device;
}

/** Resolves with the next state of that name. */
function stateOf<Name extends DeviceState['state']>(
  device: Device,
  name: Name,
): Promise<DeviceState & { state: Name }> {
  return new Promise((resolve) => {
    const look = (state: DeviceState): void => {
      if (state.state !== name) return;
      off();
      resolve(state as DeviceState & { state: Name });
    };
    const off = device.on('state', look);
    look(device.status().state);
  });
}

/** Nothing that is under way anywhere in this process is left. */
async function quiet(): Promise<void> {
  for (let turn = 0; turn < 50; turn += 1) await new Promise((resolve) => setImmediate(resolve));
}

describe('a report', () => {
  it('is signed with the key of the folder and delivered', async () => {
    const device = await open();
    const [id] = await device.report([{ at: device.now(), value: 42 }]);
    expect(await device.flush(10_000)).toBe(true);
    expect(server.arrived).toMatchObject([{ id, at: START, readings: [{ at: START, value: 42 }] }]);
    const [header = '', payload = '', signature = ''] = server.arrived[0]?.sealed.split('.') ?? [];
    expect(JSON.parse(Buffer.from(header, 'base64url').toString())).toEqual({ alg: 'ES256', kid: 'm1' });
    const signed = Buffer.from(`${header}.${payload}`);
    const key = { key: device.publicKeyPem, dsaEncoding: 'ieee-p1363' } as const;
    expect(verify('sha256', signed, key, Buffer.from(signature, 'base64url'))).toBe(true);
    expect(device.status()).toMatchObject({ queued: 0, queuedBytes: 0, delivered: 1, state: { state: 'idle' } });
    expect(statSync(join(folder, 'key.pem')).mode & 0o777).toBe(0o600);
  });

  it('of many readings becomes several envelopes, each with an id of its own', async () => {
    const device = await open();
    const ids = await device.report(Array.from({ length: 1201 }, (_, value) => ({ at: START, value })));
    await device.flush(10_000);
    const counts = server.arrived.map(({ id, readings }) => [id, readings.length] as const);
    expect(new Map(counts)).toEqual(new Map([500, 500, 201].map((count, index) => [ids[index], count])));
    expect(counts).toHaveLength(3);
  });

  it('that waits goes out later under the same id, also in another run', async () => {
    server.answer = () => null;
    const first = await open();
    const [id] = await first.report([{ at: START, value: 1 }]);
    await stateOf(first, 'waiting');
    await first.close();
    expect(first.status()).toMatchObject({ state: { state: 'closed' }, queued: 1 });
    server.answer = accepted;
    const second = await open();
    expect(await second.flush(10_000)).toBe(true);
    expect(server.arrived.map((arrived) => arrived.id)).toEqual([id, id]);
    expect(second.publicKeyPem).toBe(first.publicKeyPem);
  });

  it('with a trigger of a seismic sensor overtakes telemetry, as does what the app calls urgent', async () => {
    server.answer = () => problem(503, 'overloaded', { 'retry-after': '5' });
    const device = await open({ inFlight: 1 });
    await device.report([{ at: START, rate: 100, x: [1], y: [1], z: [1] }]);
    await stateOf(device, 'waiting');
    const packet = { at: START, rate: 100, x: [2], y: [2], z: [2] };
    await device.report([packet]);
    const [trigger] = await device.report([{ at: START, value: 9 }]);
    const [marked] = await device.report([packet], { urgent: true });
    await device.report([{ at: START, value: 1 }], { urgent: false });
    server.answer = accepted;
    time.advance(6000);
    await device.flush(10_000);
    expect(server.arrived.slice(1, 3).map(({ id }) => id)).toEqual([trigger, marked]);
    expect(server.arrived).toHaveLength(6);
  });

  it('after the close is refused', async () => {
    const device = await open();
    await device.close();
    await device.close();
    await expect(device.report([{ at: START, value: 1 }])).rejects.toMatchObject({ code: 'closed' });
    expect(await device.flush(10)).toBe(true);
  });
});

describe('Retry-After', () => {
  it.each([
    ['seconds of a 429', problem(429, 'rate-limited', { 'retry-after': '30' }), 'rate-limited'],
    [
      'a date of a 503',
      problem(503, 'overloaded', {
        'retry-after': 'Sat, 28 Nov 2026 12:00:30 GMT',
        date: 'Sat, 28 Nov 2026 12:00:00 GMT',
      }),
      'overloaded',
    ],
    ['a 503 of a proxy', { status: 503, headers: { 'retry-after': '30' }, body: '<html>' }, 'busy'],
  ])('is kept by the whole device: %s', async (_, answer, reason) => {
    server.answer = () => answer;
    const device = await open();
    await device.report([{ at: START, value: 1 }]);
    await server.reached(1);
    const state = await stateOf(device, 'waiting');
    // 30 s and, with this draw, a tenth more.
    expect(state.reason).toBe(reason);
    expect(state.until - device.now()).toBe(33_000);
    await device.report([{ at: START, value: 2 }]);
    server.answer = accepted;
    time.advance(32_999);
    await quiet();
    expect(server.arrived).toHaveLength(1);
    time.advance(1);
    expect(await device.flush(10_000)).toBe(true);
    expect(server.arrived).toHaveLength(3);
    expect(new Set(server.arrived.map(({ id }) => id)).size).toBe(2);
  });
});

describe('a back-off', () => {
  it('grows while nobody answers, with one envelope at a time, and ends with the first success', async () => {
    server.answer = () => null;
    const device = await open({ inFlight: 4, backOffFirstMs: 1000, backOffMostMs: 4000 });
    await Promise.all(Array.from({ length: 10 }, (_, value) => device.report([{ at: START, value }])));
    await stateOf(device, 'waiting');
    await quiet();
    const before = server.arrived.length;
    expect(before).toBeLessThanOrEqual(4);
    const waits: (number | null)[] = [];
    for (let round = 1; round <= 4; round += 1) {
      const again = server.reached(before + round);
      waits.push(time.advanceToNext());
      await again;
      await stateOf(device, 'waiting');
      await quiet();
    }
    expect(server.arrived).toHaveLength(before + 4);
    expect(waits).toEqual([550, 1100, 2200, 2200].map((ms) => expect.closeTo(ms, 0)));
    server.answer = accepted;
    time.advanceToNext();
    expect(await device.flush(10_000)).toBe(true);
    expect(device.status()).toMatchObject({ delivered: 10, state: { state: 'idle' } });
  });

  it('of one envelope that the server fails on lets the others pass', async () => {
    const device = await open({ inFlight: 1 });
    const [poison] = await device.report([{ at: START, value: 0 }]);
    await device.flush(10_000);
    server.answer = (arrived) => (arrived.readings[0]?.['value'] === 13 ? problem(500, 'internal') : accepted(arrived));
    const [bad] = await device.report([{ at: START, value: 13 }]);
    await server.reached(2);
    await stateOf(device, 'waiting');
    for (let value = 1; value <= 5; value += 1) await device.report([{ at: START, value }]);
    for (let step = 0; step < 400 && device.status().delivered < 6; step += 1) {
      time.advance(50);
      await quiet();
    }
    expect(device.status()).toMatchObject({ delivered: 6, queued: 1 });
    server.answer = accepted;
    for (let step = 0; step < 100 && device.status().queued > 0; step += 1) {
      time.advance(1000);
      await quiet();
    }
    expect(server.arrived.at(-1)?.id).toBe(bad);
    expect(poison).not.toBe(bad);
  });

  it('keeps what a stranger answers with 200, 202 or 404', async () => {
    const device = await open();
    for (const [index, status] of [200, 202, 404, 302, 403, 413].entries()) {
      server.answer = () => ({ status, body: '<html>Welcome to the hotel</html>' });
      if (index === 0) await device.report([{ at: START, value: 1 }]);
      await server.reached(index + 1);
      await stateOf(device, 'waiting');
      await quiet();
      expect(device.status()).toMatchObject({ queued: 1, delivered: 0, deadLetters: 0 });
      if (index < 5) time.advance(300_000);
      await quiet();
    }
  });
});

describe('a wrong clock', () => {
  it('is mended by the Date of the refusal: signed again at once, with the same id', async () => {
    time = createFakeTime(START - 86_400_000);
    const truth = START + 300;
    server.answer = (arrived) =>
      Math.abs(arrived.at - truth) > 30_000
        ? problem(403, 'envelope-stale', { date: new Date(START).toUTCString() })
        : accepted(arrived);
    const device = await open();
    const [id] = await device.report([{ at: START, value: 1 }]);
    expect(await device.flush(10_000)).toBe(true);
    expect(server.arrived.map((arrived) => [arrived.id, arrived.at])).toEqual([
      [id, START - 86_400_000],
      [id, START + 625],
    ]);
    expect(device.now()).toBe(START + 625);
    expect(device.status().clock).toEqual({ offsetMs: 86_400_625, uncertaintyMs: 625 });
  });

  it('that cannot be mended is tried three times, then waits', async () => {
    server.answer = () => problem(403, 'envelope-future');
    const device = await open();
    await device.report([{ at: START, value: 1 }]);
    expect(await stateOf(device, 'waiting')).toMatchObject({ reason: 'envelope-future' });
    expect(server.arrived).toHaveLength(3);
    expect(device.status()).toMatchObject({ queued: 1, deadLetters: 0 });
  });
});

describe('a reading without a time', () => {
  const untimed = { value: 1 };
  let tell: (sample: TimeSample | null) => void = () => undefined;
  let sent: { readonly readings: readonly object[] }[] = [];
  /** Says the time when the test does. */
  const asked = (): Sender => {
    sent = [];
    return {
      send: async (sealed) => {
        sent.push(JSON.parse(Buffer.from(sealed.split('.')[1] ?? '', 'base64url').toString()));
        return { kind: 'acknowledged' };
      },
      askTime: () => new Promise((resolve) => (tell = resolve)),
      close: async () => tell(null),
    };
  };
  const sample = (): TimeSample => ({ date: START, sentAt: time.monotonic(), receivedAt: time.monotonic() });

  it('waits for the first word of the time, then has that of its report, as it was then', async () => {
    time = createFakeTime(START + 3_600_000);
    const device = await open({ sender: asked() });
    const mine = { value: 1 };
    const report = device.report([mine, { at: 5, value: 2 }]);
    mine.value = 9;
    time.advance(2000);
    tell(sample());
    await report;
    expect(await device.flush(10_000)).toBe(true);
    const at = START + 625 - 2000;
    expect(sent.map(({ readings }) => readings)).toEqual([
      [
        { value: 1, at },
        { at: 5, value: 2 },
      ],
    ]);
  });

  it('has the corrected time at once when that is known', async () => {
    time = createFakeTime(START + 3_600_000);
    const device = await open({ sender: asked() });
    tell(sample());
    await quiet();
    await device.report([untimed]);
    await device.flush(10_000);
    expect(sent).toMatchObject([{ readings: [{ value: 1, at: START + 625 }] }]);
  });

  it("has the machine's time when nobody tells another, at the end of `requestMs` or of the device", async () => {
    const device = await open({ sender: asked(), requestMs: 5000 });
    const first = device.report([untimed]);
    await quiet();
    expect(device.status().queued).toBe(0);
    time.advance(5000);
    await first;
    await device.flush(10_000);
    expect(sent).toMatchObject([{ readings: [{ at: START }] }]);
    const second = device.report([untimed]);
    await device.close();
    expect(await second).toHaveLength(1);
  });

  it('does not hold up the readings that have one, and is refused before it waits', async () => {
    const device = await open({ sender: asked() });
    await device.report([{ at: START, value: 1 }]);
    await expect(device.report([{ value: Number.NaN }])).rejects.toMatchObject({ code: 'reading-invalid' });
    const packet = { rate: 100, x: [1], y: [1], z: [1] };
    await expect(device.report([packet])).rejects.toMatchObject({ code: 'reading-invalid' });
  });
});

describe('a sender of the app', () => {
  it('is used in place of HTTP and closed with the device; one that rejects counts as a lost connection', async () => {
    const calls: string[] = [];
    const sender: Sender = {
      send: async (sealed, id) => {
        calls.push(`${sealed.split('.').length} ${id}`);
        if (calls.length === 1) throw new Error('not what was promised');
        return { kind: 'acknowledged' };
      },
      askTime: () => Promise.reject(new Error('nor this')),
      close: async () => void calls.push('closed'),
    };
    const device = await open({ sender });
    const [id] = await device.report([{ at: START, value: 1 }]);
    expect(await stateOf(device, 'waiting')).toMatchObject({ reason: 'connection-lost' });
    time.advance(1000);
    expect(await device.flush(10_000)).toBe(true);
    await device.close();
    expect(calls).toEqual([`3 ${id}`, `3 ${id}`, 'closed']);
  });
});

describe('a refusal', () => {
  it.each([
    [423, 'device-blocked'],
    [403, 'device-unknown'],
    [401, 'api-key-unknown'],
    [401, 'signature-invalid'],
  ])('%i %s holds everything, shows the reason, and goes on once it is mended', async (status, code) => {
    server.answer = () => problem(status, code);
    const device = await open({ inFlight: 1 });
    for (let value = 0; value < 5; value += 1) await device.report([{ at: START, value }]);
    expect(await stateOf(device, 'refused')).toMatchObject({ reason: code });
    expect(server.arrived).toHaveLength(1);
    time.advance(40_000);
    await quiet();
    expect(server.arrived).toHaveLength(1);
    server.answer = accepted;
    time.advance(10_000);
    expect(await device.flush(10_000)).toBe(true);
    expect(device.status()).toMatchObject({ delivered: 5, dropped: 0, deadLetters: 0, state: { state: 'idle' } });
  });

  it.each([
    [422, 'schema'],
    [400, 'malformed-jws'],
    [415, 'content-type'],
    [409, 'id-conflict'],
  ])('%i %s sets the envelope aside with its reasons, and the rest goes on', async (status, code) => {
    const errors = [{ pointer: '/readings/0/value', detail: 'no number' }];
    server.answer = (arrived) =>
      arrived.readings[0]?.['value'] === 'x' ? { status, body: { code, detail: 'no', errors } } : accepted(arrived);
    const device = await open();
    const events: unknown[] = [];
    device.on('dead-letter', (event) => events.push(event));
    const [id] = await device.report([{ at: START, value: 'x' }]);
    await device.report([{ at: START, value: 1 }]);
    expect(await device.flush(10_000)).toBe(true);
    expect(device.status()).toMatchObject({ delivered: 1, deadLetters: 1, queued: 0 });
    expect(events).toEqual([{ id, readings: 1, reason: code, detail: 'no', errors }]);
    const [line] = readFileSync(join(folder, 'dead-letters.jsonl'), 'utf8').trim().split('\n');
    expect(JSON.parse(line ?? '')).toMatchObject({
      id,
      reason: code,
      errors,
      profile: 'seismic',
      readings: [{ value: 'x' }],
    });
  });

  it('409 replay is success', async () => {
    server.answer = () => problem(409, 'replay');
    const device = await open();
    const events: unknown[] = [];
    device.on('delivered', (event) => events.push(event));
    const [id] = await device.report([{ at: START, value: 1 }]);
    expect(await device.flush(10_000)).toBe(true);
    expect(events).toEqual([{ id, readings: 1, replay: true }]);
    expect(device.status()).toMatchObject({ delivered: 1, replays: 1 });
  });
});

describe('a full outbox', () => {
  it('drops the oldest telemetry, counts and tells it, and keeps what is urgent', async () => {
    server.answer = () => problem(503, 'store-unavailable', { 'retry-after': '60' });
    const device = await open({ outboxEnvelopes: 10 });
    const dropped: unknown[] = [];
    device.on('dropped', ({ id, urgent }) => dropped.push([id, urgent]));
    const urgent: string[] = [];
    const telemetry: string[] = [];
    for (let value = 0; value < 4; value += 1) {
      urgent.push(...(await device.report([{ at: START, value }], { urgent: true })));
    }
    await stateOf(device, 'waiting');
    await quiet();
    for (let value = 0; value < 30; value += 1) {
      telemetry.push(...(await device.report([{ at: START, value }], { urgent: false })));
    }
    expect(device.status()).toMatchObject({ queued: 10, dropped: 24, delivered: 0 });
    expect(dropped).toEqual(telemetry.slice(0, 24).map((id) => [id, false]));
    server.arrived.length = 0;
    server.answer = accepted;
    time.advance(73_000);
    expect(await device.flush(10_000)).toBe(true);
    expect(new Set(server.arrived.map(({ id }) => id))).toEqual(new Set([...urgent, ...telemetry.slice(24)]));
    expect(server.arrived).toHaveLength(10);
  });
});

describe('opening', () => {
  it.each([
    ['no server', { server: undefined }],
    ['no key', { apiKey: undefined }],
    ['an id that is none', { id: 'a b' }],
    ['an unknown profile', { profile: 'toaster' }],
    ['no folder', { folder: '' }],
    ['a window of 0', { inFlight: 0 }],
    ['half an envelope', { outboxEnvelopes: 1.5 }],
    ['too small an outbox', { outboxBytes: 1000 }],
  ])('is refused with %s', async (_, wrong) => {
    await expect(open(wrong as Partial<DeviceOptions>)).rejects.toMatchObject({ code: 'option-invalid' });
  });

  it('a folder twice is refused until the first is closed', async () => {
    const first = await open();
    await expect(open()).rejects.toMatchObject({ code: 'folder-in-use' });
    await first.close();
    await open();
  });

  it("another device's folder is refused, and the folder stays free for its own", async () => {
    await (await open()).close();
    await expect(open({ id: 'm2' })).rejects.toMatchObject({ code: 'folder-of-another-device' });
    await open();
  });

  it('leaves no timer behind once it is closed', async () => {
    server.answer = () => null;
    const device = await open();
    await device.report([{ at: START, value: 1 }]);
    await stateOf(device, 'waiting');
    await device.close();
    expect(time.timers()).toBe(0);
  });
});

describe('a challenge', () => {
  it('is signed with the id of the device', async () => {
    const device = await open();
    const nonce = 'n'.repeat(22);
    const signature = Buffer.from(device.signChallenge(nonce), 'base64url');
    const key = { key: device.publicKeyPem, dsaEncoding: 'ieee-p1363' } as const;
    expect(verify('sha256', Buffer.from(`tocsin-challenge:m1:${nonce}`), key, signature)).toBe(true);
    expect(() => device.signChallenge('any text at all, please')).toThrow('nonce');
  });
});
