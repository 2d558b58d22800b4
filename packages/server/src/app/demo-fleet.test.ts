import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Operator, OperatorAnswer } from '@tocsin/device/simulate/operator';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { DEMO_FILE, newDemoNetwork, openDemoNetwork } from './demo-fleet.ts';
import { demoOptions } from './demo.ts';

let dataDir: string;
beforeEach(async () => {
  dataDir = await mkdtemp(join(tmpdir(), 'tocsin-demo-'));
});
afterEach(() => rm(dataDir, { recursive: true, force: true }));

/** A server's registry in memory. */
function registry(): { readonly operator: Operator; readonly devices: Map<string, Record<string, unknown>> } {
  const devices = new Map<string, Record<string, unknown>>();
  const answer = (method: string, path: string, body: object = {}): OperatorAnswer => {
    const { id } = body as { id?: string };
    if (path === '/v1/zones') return { status: 201, body: null };
    if (method === 'GET') return { status: 200, body: devices.get(path.split('/').at(-1) ?? '') ?? null };
    if (devices.has(id ?? '')) return { status: 409, body: null };
    devices.set(id ?? '', { ...body, standing: 'active' });
    return { status: 201, body: null };
  };
  const call: Operator['call'] = (method, path, body) => Promise.resolve(answer(method, path, body));
  return { devices, operator: { call, expect: (_wanted, ...asked) => call(...asked), close: () => undefined } };
}

describe('the fleet of a demo', () => {
  it('is made once, registered as exercise, kept for this user only, and found again', async () => {
    const { operator, devices } = registry();
    const warnings: string[] = [];
    const ground = { dataDir, operator, warn: (_fields: object, message: string) => void warnings.push(message) };
    const first = await openDemoNetwork(ground);
    expect(devices.size).toBe(96);
    expect([...devices.values()].every(({ exercise }) => exercise === true)).toBe(true);
    expect((await stat(join(dataDir, DEMO_FILE))).mode & 0o777).toBe(0o600);
    expect(await openDemoNetwork(ground)).toEqual(first);
    expect(warnings).toEqual([]);
  });

  it.each([
    ['was revoked', { standing: 'revoked' }],
    ['has another key', { publicKey: 'other' }],
    ['is none of a simulation', { exercise: undefined }],
  ])('gets new ids when one of its devices %s', async (_what, change) => {
    const { operator, devices } = registry();
    const warnings: string[] = [];
    const ground = { dataDir, operator, warn: (_fields: object, message: string) => void warnings.push(message) };
    const [one] = (await openDemoNetwork(ground)).devices;
    const id = one?.id ?? '';
    devices.set(id, { ...devices.get(id), ...change });
    const next = await openDemoNetwork(ground);
    expect(next.devices.some((device) => device.id === id)).toBe(false);
    expect(warnings).toHaveLength(1);
    expect(JSON.parse(await readFile(join(dataDir, DEMO_FILE), 'utf8'))).toEqual(next);
  });

  it.each(['', '{', 'null', '[]', '{"zones":[],"devices":[]}', '{"zones":[],"devices":[{"id":"mine"}]}'])(
    'is made anew from a file that holds %j',
    async (text) => {
      await writeFile(join(dataDir, DEMO_FILE), text);
      const { operator, devices } = registry();
      await openDemoNetwork({ dataDir, operator, warn: () => undefined });
      expect(devices.size).toBe(96);
    },
  );

  it('is large enough for a swarm and an event, and stays below the default limit of 50 envelopes a second', () => {
    const network = newDemoNetwork();
    const inZone = network.devices.filter(({ zoneId }) => zoneId === network.zones[0]?.id);
    expect(inZone.length).toBeGreaterThanOrEqual(55);
    const waveforms = network.devices.filter(({ waveform }) => waveform === true).length;
    const where = { origin: 'http://127.0.0.1:1', apiKey: 'k', run: 'r', everySeconds: 180 };
    const { ratePerSecond, seconds } = demoOptions(where, network);
    expect(waveforms / 1.024 + ratePerSecond).toBeLessThan(30);
    expect(seconds).toBeNull();
  });
});
