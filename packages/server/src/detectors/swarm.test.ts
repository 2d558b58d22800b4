import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Trigger } from '../profiles/seismic/trigger.ts';
import type { Finding } from './detector.ts';
import { bar, swarmDetector, type SwarmOptions, type SwarmState } from './swarm.ts';

const OPTIONS: SwarmOptions = { sensors: 5, windowMs: 10_000, cooldownMs: 60_000, liveMs: 60_000 };
const START = 1_700_000_000_000;

function trigger(device: number, at: number, amplitude = 10): Trigger {
  return { at: START + at, amplitude, deviceId: `d${device}`, envelopeId: `e${device}-${at}` };
}

function run(triggers: readonly Trigger[], options = OPTIONS): { findings: Finding[]; state: SwarmState | null } {
  const detector = swarmDetector(options);
  let state: SwarmState | null = null;
  const findings: Finding[] = [];
  for (const one of triggers) {
    const step = detector.step(state, 'zone:z1', one, one.at);
    state = step.state;
    findings.push(...step.findings);
  }
  return { findings, state };
}

const swarm = (from: number, devices: number, amplitude = 10): Trigger[] =>
  Array.from({ length: devices }, (_, i) => trigger(i, from + i * 10, amplitude));

describe('swarm', () => {
  test('as many sensors as asked for within the window make one alarm with its envelopes', () => {
    const { findings } = run(swarm(0, 5));
    expect(findings).toHaveLength(1);
    expect(findings[0]).toMatchObject({ kind: 'seismic.swarm', zoneId: 'z1', onset: START, severity: 'severe' });
    expect(findings[0]?.evidence).toMatchObject({ sensors: 5, quorum: 5 });
    expect(findings[0]?.evidence['envelopes']).toHaveLength(5);
  });

  test('one sensor fewer makes none', () => {
    expect(run(swarm(0, 4)).findings).toEqual([]);
  });

  test('one sensor that triggers a hundred times counts once', () => {
    expect(run(Array.from({ length: 100 }, (_, i) => trigger(1, i * 50))).findings).toEqual([]);
  });

  test('both ends of the window belong to it, a millisecond more does not', () => {
    const four = [0, 1, 2, 3].map((device) => trigger(device, 0));
    expect(run([...four, trigger(4, 10_000)]).findings).toHaveLength(1);
    expect(run([...four, trigger(4, 10_001)]).findings).toEqual([]);
  });

  test('the order of arrival does not matter', () => {
    expect(run(swarm(0, 5).reverse()).findings).toHaveLength(1);
  });

  test('it is quiet for the cool-down and not longer', () => {
    expect(run([...swarm(0, 5), ...swarm(30_000, 5), ...swarm(59_000, 5)]).findings).toHaveLength(1);
    expect(run([...swarm(0, 5), ...swarm(60_040, 5)]).findings).toHaveLength(2);
  });

  test('a much stronger event breaks through the cool-down', () => {
    const { findings } = run([...swarm(0, 5, 10), ...swarm(20_000, 5, 100)]);
    expect(findings.map((finding) => finding.onset - START)).toEqual([0, 20_000]);
  });

  test('S waves count, but break through no cool-down', () => {
    const again = swarm(9000, 5, 100).map((one) => ({ ...one, again: true }) as const);
    expect(run([...swarm(0, 5), ...again]).findings).toHaveLength(1);
    expect(run([...swarm(0, 4), ...again.slice(4)]).findings).toHaveLength(1);
  });

  test('triggers without an amplitude do not break through the cool-down either', () => {
    expect(run([...swarm(0, 5, 0), ...swarm(20_000, 5, 0)]).findings).toHaveLength(1);
    expect(run([...swarm(0, 5, 0), ...swarm(60_040, 5, 0)]).findings).toHaveLength(2);
  });

  test('a record that comes from a partition further on does not sweep away what one behind still needs', () => {
    const detector = swarmDetector(OPTIONS);
    let state: SwarmState | null = null;
    const findings: Finding[] = [];
    for (const one of [
      trigger(0, 0),
      trigger(1, 0),
      trigger(9, 300_000),
      trigger(2, 0),
      trigger(3, 0),
      trigger(4, 0),
    ]) {
      const step = detector.step(state, 'zone:z1', one, one.at);
      state = step.state;
      findings.push(...step.findings);
    }
    expect(findings).toHaveLength(1);
  });

  test('one broken sensor that screams breaks nothing', () => {
    expect(run([...swarm(0, 5, 10), ...swarm(20_000, 4, 10), trigger(4, 20_050, 1e9)]).findings).toHaveLength(1);
  });

  test('the bar starts at three times the last amplitude and sinks, as scautopick decays', () => {
    const event = { onset: 0, decidedAt: 0, amplitude: 10, devices: [], envelopes: [], told: 0 };
    expect(bar(OPTIONS, event, 0)).toBeCloseTo(30);
    expect(bar(OPTIONS, event, 60_000)).toBeCloseTo(10 * (1 + 2 / Math.E));
  });

  test('an event that grows by half is told of again with the same onset', () => {
    const { findings } = run(swarm(0, 10));
    expect(findings.map((finding) => finding.evidence['sensors'])).toEqual([5, 8]);
    expect(new Set(findings.map((finding) => finding.onset)).size).toBe(1);
  });

  test('twice the sensors are extreme', () => {
    expect(run(swarm(0, 12)).findings.at(-1)?.severity).toBe('extreme');
  });

  test('time alone empties the state', () => {
    const detector = swarmDetector(OPTIONS);
    const { state } = run(swarm(0, 5));
    if (state === null) throw new Error('no state');
    expect(detector.tick(state, 'zone:z1', START + 1000).state).not.toBeNull();
    expect(detector.tick(state, 'zone:z1', START + 200_000).state).toBeNull();
  });

  test('a first alarm comes exactly when a naive count over all windows finds the sensors', () => {
    const one = fc.record({ device: fc.integer({ min: 0, max: 7 }), at: fc.integer({ min: 0, max: 40_000 }) });
    fc.assert(
      fc.property(fc.array(one, { maxLength: 60 }), (raw) => {
        const triggers = raw.map(({ device, at }) => trigger(device, at));
        const detector = swarmDetector(OPTIONS);
        let state: SwarmState | null = null;
        for (let i = 0; i < triggers.length; i += 1) {
          const now = triggers[i];
          if (now === undefined) break;
          const step = detector.step(state, 'zone:z1', now, START + 40_000);
          state = step.state;
          const seen = triggers.slice(0, i + 1);
          const naive = seen.some(
            ({ at }) => new Set(seen.filter((t) => t.at >= at && t.at <= at + 10_000).map((t) => t.deviceId)).size >= 5,
          );
          expect(step.findings.length > 0).toBe(naive);
          if (naive) return;
        }
      }),
      { numRuns: 500 },
    );
  });

  test('the same log gives the same findings wherever its state was saved and read again', () => {
    const triggers = [...swarm(0, 9), ...swarm(20_000, 5, 100), ...swarm(200_000, 7)];
    const detector = swarmDetector(OPTIONS);
    let state: SwarmState | null = null;
    const findings: Finding[] = [];
    for (const one of triggers) {
      const step = detector.step(JSON.parse(JSON.stringify(state)) as SwarmState | null, 'zone:z1', one, one.at);
      state = step.state;
      findings.push(...step.findings);
    }
    expect(findings).toEqual(run(triggers).findings);
  });
});
