import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { decodeEnvelope } from '../decode.ts';
import { mobileProfile } from '../mobile/mobile.ts';
import { seismicProfile } from '../seismic/seismic.ts';
import { LATEST_TIMESTAMP, parseFrame } from './frame.ts';
import { hostProfile } from './host.ts';

const GOOD = {
  device_id: 'web-1',
  timestamp: 1_700_000_000,
  cpu_percent: 12.5,
  mem_percent: 40,
  disk_percent: 100,
  gpu_percent: null,
  agent_cpu_percent: 0.5,
  agent_mem_mb: 20,
};
const parse = (frame: unknown): ReturnType<typeof parseFrame> =>
  parseFrame(typeof frame === 'string' ? frame : JSON.stringify(frame), 'web-1');
const broken = (frame: unknown): readonly (readonly [string, string])[] => {
  const found = parse(frame);
  return found.kind === 'broken' ? found.errors.map(({ pointer, detail }) => [pointer, detail] as const) : [];
};

const percent = fc.double({ min: 0, max: 100, noNaN: true });
const orNull = (numbers: fc.Arbitrary<number>): fc.Arbitrary<number | null> => fc.option(numbers, { nil: null });
const frames = fc.record(
  {
    device_id: fc.constant('web-1'),
    timestamp: fc.integer({ min: 0, max: LATEST_TIMESTAMP }),
    cpu_percent: percent,
    mem_percent: percent,
    disk_percent: percent,
    gpu_percent: orNull(percent),
    agent_cpu_percent: orNull(fc.double({ min: 0, max: 1000, noNaN: true })),
    agent_mem_mb: orNull(fc.double({ min: 0, noNaN: true, noDefaultInfinity: true })),
  },
  { requiredKeys: ['device_id', 'timestamp', 'cpu_percent', 'mem_percent', 'disk_percent'] },
);

describe('a frame', () => {
  test('becomes a reading: ms of its time, absent optionals as null', () => {
    const { gpu_percent: _gpu, agent_cpu_percent: _cpu, agent_mem_mb: _mem, ...least } = GOOD;
    expect(parse(GOOD)).toEqual({
      kind: 'frame',
      reading: {
        ...{ at: 1_700_000_000_000, cpu_percent: 12.5, mem_percent: 40, disk_percent: 100 },
        ...{ gpu_percent: null, agent_cpu_percent: 0.5, agent_mem_mb: 20 },
      },
    });
    expect(parse(least)).toMatchObject({ reading: { gpu_percent: null, agent_cpu_percent: null, agent_mem_mb: null } });
  });

  test('that keeps the rules is taken, exactly, and has the same text whatever the order of its members', () => {
    fc.assert(
      fc.property(frames, (frame) => {
        const found = parse(frame);
        const { device_id: _id, timestamp, ...numbers } = frame;
        const optional = { gpu_percent: null, agent_cpu_percent: null, agent_mem_mb: null };
        const reading = { at: timestamp * 1000, ...optional, ...JSON.parse(JSON.stringify(numbers)) };
        expect(found.kind === 'frame' && JSON.parse(JSON.stringify(found.reading))).toEqual(reading);
        const turned = Object.fromEntries(Object.entries(frame).reverse());
        expect(JSON.stringify(parse(turned))).toBe(JSON.stringify(found));
      }),
    );
  });

  test('of which one member is anything else is refused at that member, unless the rule allows it', () => {
    const names = Object.keys(GOOD) as (keyof typeof GOOD)[];
    const bounds: Readonly<Record<string, number>> = { agent_cpu_percent: 1000, agent_mem_mb: Infinity };
    const allowed = (name: string, value: unknown): boolean => {
      if (name === 'device_id') return value === 'web-1';
      if (value === null) return ['gpu_percent', 'agent_cpu_percent', 'agent_mem_mb'].includes(name);
      if (typeof value !== 'number' || value < 0) return false;
      return name === 'timestamp'
        ? Number.isInteger(value) && value <= LATEST_TIMESTAMP
        : value <= (bounds[name] ?? 100);
    };
    const values = fc.oneof(
      fc.jsonValue(),
      fc.double({ noDefaultInfinity: true, noNaN: true }),
      fc.integer({ min: -1, max: 1001 }),
      fc.constantFrom('12', '', true, false, [], {}, [1], 1e300, -1e-9, 0.5, LATEST_TIMESTAMP, LATEST_TIMESTAMP + 1),
    );
    fc.assert(
      fc.property(fc.constantFrom(...names), values, (name, value) => {
        const found = parse({ ...GOOD, [name]: value });
        const pointers = found.kind === 'broken' ? found.errors.map(({ pointer }) => pointer) : [];
        expect(found.kind).toBe(allowed(name, value) ? 'frame' : 'broken');
        expect(pointers).toEqual(allowed(name, value) ? [] : [`/${name}`]);
      }),
      { numRuns: 1000 },
    );
  });

  test('is refused whatever else it has, or lacks', () => {
    for (const name of ['device_id', 'timestamp', 'cpu_percent', 'mem_percent', 'disk_percent']) {
      const { [name as 'timestamp']: _gone, ...rest } = GOOD;
      expect(broken(rest)).toEqual([[`/${name}`, 'is missing']]);
    }
    expect(broken({ ...GOOD, at: 1 })).toEqual([['/at', 'is not a known key']]);
    const text = JSON.stringify(GOOD);
    expect(broken(`{"__proto__":1,${text.slice(1)}`)).toEqual([['/__proto__', 'is not a known key']]);
    expect(broken({ ...GOOD, device_id: 'web-2' })).toEqual([['/device_id', 'must be the device of the topic']]);
  });

  test.each(['[]', 'null', '1', '"web-1"', 'true', `[${JSON.stringify(GOOD)}]`])('is no object: %s', (text) => {
    expect(broken(text)).toEqual([['', 'must be an object']]);
  });

  test.each([
    ...['', ' ', '{', 'NaN', 'undefined', '{"a":1,}', "{'a':1}", '{}{}', '\uFEFF{}', '{"a":01}', '// x\n{}'],
    JSON.stringify(GOOD).replace('12.5', 'NaN'),
    JSON.stringify(GOOD).replace('12.5', 'Infinity'),
    JSON.stringify(GOOD).replace('12.5', '-Infinity'),
    JSON.stringify(GOOD).replace('12.5', '0x10'),
  ])('is malformed: %j', (text) => {
    expect(parse(text)).toEqual({ kind: 'malformed' });
  });

  test('with a number beyond every number is refused, not taken as infinite', () => {
    expect(broken(JSON.stringify(GOOD).replace('"agent_mem_mb":20', '"agent_mem_mb":1e999'))).toHaveLength(1);
    expect(broken(JSON.stringify(GOOD).replace('1700000000', '1e999'))).toHaveLength(1);
  });

  test('of any text at all is answered, never thrown at, and nothing of a value is told', () => {
    const near = frames.map((frame) => JSON.stringify(frame));
    const cut = fc
      .tuple(near, fc.nat(200), fc.string({ maxLength: 5 }))
      .map(([text, at, more]) => text.slice(0, at) + more + text.slice(at + 1));
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.json(), cut), (text) => {
        const found = parse(text);
        expect(['malformed', 'broken', 'frame']).toContain(found.kind);
        if (found.kind === 'broken') expect(found.errors.length).toBeGreaterThan(0);
      }),
      { numRuns: 1000 },
    );
    const secret = parse({ ...GOOD, cpu_percent: 'hunter2', mem_percent: ['hunter2'], timestamp: 'hunter2' });
    expect(JSON.stringify(secret)).not.toContain('hunter2');
  });

  test('tells 20 mistakes at most', () => {
    const many = Object.fromEntries(Array.from({ length: 500 }, (_, i) => [`k${i}`, i]));
    expect(broken({ ...GOOD, ...many })).toHaveLength(20);
  });

  test('comes back from its record as the envelope that it was', () => {
    const profiles = {
      seismic: seismicProfile({ windowMs: 10_000, liveMs: 60_000 }),
      host: hostProfile(),
      mobile: mobileProfile,
    };
    fc.assert(
      fc.property(frames, (frame) => {
        const found = parse(frame);
        if (found.kind !== 'frame') throw new Error('refused');
        const { at } = found.reading;
        const envelope = { id: `${at / 1000}-x`, at, profile: 'host', readings: [found.reading] };
        expect(decodeEnvelope(profiles, 'frame', JSON.stringify(envelope))).toEqual(envelope);
      }),
    );
  });
});
