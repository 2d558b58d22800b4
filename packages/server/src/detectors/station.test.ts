import { describe, expect, test } from 'vitest';
import { PICKER } from '../profiles/seismic/detection.ts';
import { add, burst, noise, NOISE, packets, START, type Trace } from './ground.suite.ts';
import { createStationPicker } from './station.ts';
import type { Packet, Pick, StationState, Told } from './station-state.ts';

const HERE = { latitude: 16, longitude: -99 };

function run(
  input: readonly { packet: Packet; now: number }[],
  through = (state: StationState | null): StationState | null => state,
) {
  const picker = createStationPicker(PICKER);
  let state: StationState | null = null;
  const told: Told[] = [];
  for (const { packet, now } of input) {
    const step = picker.step(through(state), packet, now);
    state = step.state;
    told.push(...step.told);
  }
  return { state, told, picks: picksOf(told) };
}

/** The last that was told of each pick. */
function picksOf(told: readonly Told[]): Pick[] {
  const picks = new Map<number, Pick>();
  for (const one of told) if (one.kind === 'pick') picks.set(one.at, one);
  return [...picks.values()];
}

/** Forty packets of a signal, long and short ones. */
function hostile(
  signal: (sample: number) => number,
  rate: number,
  start: number,
  through: (state: StationState | null) => StationState | null,
) {
  let [sent, at] = [0, start];
  const input = Array.from({ length: 40 }, (_, k) => {
    const samples = Array.from({ length: k % 2 === 0 ? 32 : 1000 }, () => signal(sent++));
    const packet = { at, rate, axes: [samples, samples, samples] };
    at += (samples.length * 1000) / rate;
    return { packet, now: at + 200 };
  });
  const { state, told } = run(input, through);
  return { state, told };
}

function quake(rate = 31.25, seed = 1, from = 40): Trace {
  const trace = noise('s', HERE, 80, seed, rate);
  for (const axis of [0, 1, 2]) add(trace, axis, from, burst(0.02, 5, axis + 1));
  return trace;
}

describe('a station', () => {
  test('an earthquake makes one pick, at its onset', () => {
    const { picks } = run(packets(quake()));
    expect(picks).toHaveLength(1);
    expect(Math.abs((picks[0]?.at ?? 0) - (START + 40_000))).toBeLessThan(500);
  });

  test('an hour of noise makes at most a few', () => {
    let picks = 0;
    for (let seed = 0; seed < 12; seed += 1) picks += run(packets(noise('s', HERE, 300, seed + 50))).picks.length;
    expect(picks).toBeLessThanOrEqual(4);
  });

  test('any rate from 10 to 200 Hz hears the same earthquake at the same time', () => {
    for (const rate of [10, 20, 31.25, 40, 50, 100, 200]) {
      const { picks } = run(packets(quake(rate, 3)));
      expect(picks.length, `${rate} Hz`).toBeGreaterThanOrEqual(1);
      expect(Math.abs((picks[0]?.at ?? 0) - (START + 40_000)), `${rate} Hz`).toBeLessThan(800);
    }
  });

  test('one axis or two are enough', () => {
    for (const axes of [1, 2]) {
      const input = packets(quake(31.25, 4)).map(({ packet, now }) => ({
        packet: { ...packet, axes: packet.axes.slice(0, axes) },
        now,
      }));
      expect(run(input).picks).toHaveLength(1);
    }
  });

  test('glitches of one to three samples, steps and a short bump are no picks', () => {
    for (const rate of [31.25, 50, 100])
      for (const length of [1, 2, 3]) {
        const trace = noise('s', HERE, 60, length + 10, rate);
        add(trace, 0, 30, (t) => (t < length / rate ? 5 : 0));
        expect(run(packets(trace)).picks, `${length} samples at ${rate} Hz`).toEqual([]);
      }
    const step = noise('s', HERE, 60, 20);
    add(step, 1, 30, () => 3);
    expect(run(packets(step)).picks).toEqual([]);
  });

  test('a state that is saved as text after every packet goes on exactly', () => {
    const input = packets(quake(31.25, 5));
    const saved = run(input, (state) => (state === null ? null : (JSON.parse(JSON.stringify(state)) as StationState)));
    const straight = run(input);
    expect(saved.told).toEqual(straight.told);
    expect(JSON.stringify(saved.state)).toBe(JSON.stringify(straight.state));
  });

  test('packets cut anywhere give the same state to the last bit, and the same picks', () => {
    const whole = packets(quake(31.25, 6));
    const cut = whole.flatMap(({ packet, now }, i) => {
      const at = 1 + ((i * 7) % 29);
      const first = { ...packet, axes: packet.axes.map((axis) => axis.slice(0, at)) };
      const second = {
        ...packet,
        at: packet.at + (at * 1000) / packet.rate,
        axes: packet.axes.map((axis) => axis.slice(at)),
      };
      return [
        { packet: first, now },
        { packet: second, now },
      ];
    });
    const [a, b] = [run(whole), run(cut)];
    expect(b.picks.map(({ at, again }) => ({ at, again }))).toEqual(a.picks.map(({ at, again }) => ({ at, again })));
    expect(b.state?.delays).toEqual(a.state?.delays);
    expect(b.state?.long).toEqual(a.state?.long);
    expect(b.state?.short).toEqual(a.state?.short);
  });

  test('duplicates and late packets change nothing', () => {
    const input = packets(quake(31.25, 7));
    const twice = input.flatMap((one, i) => [
      one,
      one,
      ...(i > 3 ? [{ packet: input[i - 3]?.packet ?? one.packet, now: one.now }] : []),
    ]);
    expect(run(twice).told).toEqual(run(input).told);
  });

  test('of overlapping packets the new samples count', () => {
    const trace = quake(31.25, 8);
    const straight = run(packets(trace));
    const overlapping = packets(trace).map(({ packet, now }, i) => {
      const before = Math.min(5, i * 31);
      const from = i * 31 - before;
      const axes = trace.axes.map((axis) => axis.slice(from, (i + 1) * 31));
      return { packet: { ...packet, at: START + (from * 1000) / 31.25, axes }, now };
    });
    expect(run(overlapping).picks.map(({ at }) => at)).toEqual(straight.picks.map(({ at }) => at));
  });

  test('gaps make no picks, and after them it hears again', () => {
    for (const gap of [1, 3, 10]) {
      const input = packets(quake(31.25, 9)).filter((_, i) => i < 20 || i >= 20 + gap);
      const { picks } = run(input);
      expect(picks).toHaveLength(1);
    }
  });

  test('a sampling clock that is 4 % slow is no chain of gaps', () => {
    const input = packets(quake(31.25, 10)).map(({ packet }, i) => {
      const at = START + i * 31 * 33.2;
      return { packet: { ...packet, at }, now: at + 1200 };
    });
    const { state, picks } = run(input);
    expect(state?.learnt).toBeGreaterThan(2000);
    expect(picks).toHaveLength(1);
  });

  test('a device clock that is hours off is noticed: picks carry our time', () => {
    for (const skew of [-3_258_000, 3_600_000, -5000, -900]) {
      const { picks } = run(
        packets({ ...quake(31.25, 11) }).map(({ packet, now }) => ({
          packet: { ...packet, at: packet.at + skew },
          now,
        })),
      );
      expect(picks).toHaveLength(1);
      expect(Math.abs((picks[0]?.at ?? 0) - (START + 40_000)), String(skew)).toBeLessThan(1600);
    }
  });

  test('a clock that is set back is believed after five packets, not before', () => {
    const input = packets(noise('s', HERE, 40, 12)).map(({ packet, now }, i) => ({
      packet: { ...packet, at: packet.at - (i >= 20 ? 60_000 : 0) },
      now,
    }));
    const picker = createStationPicker(PICKER);
    let state: StationState | null = null;
    const verdicts = input.map(({ packet, now }) => {
      const step = picker.step(state, packet, now);
      state = step.state;
      return step.verdict;
    });
    expect(verdicts.filter((verdict) => verdict === 'behind')).toHaveLength(4);
    expect(verdicts.at(-1)).toBe('used');
  });

  test('a backlog that arrives in a burst is no clock', () => {
    const input = packets(noise('s', HERE, 60, 13));
    const late = input.slice(10, 30).map(({ packet }) => ({ packet, now: (input[40]?.now ?? 0) + 5 }));
    const { state } = run([...input.slice(0, 41), ...late, ...input.slice(41)]);
    expect(state?.learnt).toBeGreaterThan(1600);
  });

  test('a sensor that sleeps at zero and wakes, or was stuck, makes no pick', () => {
    const silent = noise('s', HERE, 80, 14, 31.25, 0);
    for (const axis of [0, 1, 2])
      silent.axes[axis] = (silent.axes[axis] ?? []).map((value, i) => (i > 1250 ? 0.01 * Math.sin(i * i) : value));
    expect(run(packets(silent)).picks).toEqual([]);
    for (const seconds of [3, 20]) {
      const stuck = noise('s', HERE, 80, 15);
      for (const axis of stuck.axes) axis.fill(0.7, 1000, 1000 + Math.round(seconds * 31.25));
      expect(run(packets(stuck)).picks, `${seconds} s`).toEqual([]);
    }
  });

  test('a digital sensor whose noise is its last bit does not trigger on it', () => {
    const trace = noise('s', HERE, 120, 16, 31.25, 0.00004);
    for (const axis of [0, 1, 2])
      trace.axes[axis] = (trace.axes[axis] ?? []).map((value) => Math.round(value / 0.0001) * 0.0001);
    expect(run(packets(trace)).picks).toEqual([]);
  });

  test('clipping is said', () => {
    const trace = noise('s', HERE, 60, 17);
    const shape = burst(60, 5, 3);
    add(trace, 0, 30, (t) => shape(t));
    trace.axes[0] = (trace.axes[0] ?? []).map((value) => Math.max(-19.6, Math.min(19.6, value)));
    expect(run(packets(trace)).picks.some(({ clipped }) => clipped)).toBe(true);
  });

  test('a changed rate goes on with the noise that it knew', () => {
    const slow = packets(noise('s', HERE, 30, 18));
    const end = slow.at(-1);
    const fast = packets(noise('s', HERE, 30, 19, 100)).map(({ packet, now }) => ({
      packet: { ...packet, at: packet.at + slow.length * 31 * 32 },
      now: now + slow.length * 31 * 32,
    }));
    const { state, picks } = run([...slow, ...fast]);
    expect(end).toBeDefined();
    expect(picks).toEqual([]);
    expect(Math.sqrt(state?.long[0] ?? 0)).toBeLessThan(2 * NOISE);
  });

  test('no sample, rate or time that a peer can send makes a state or a pick that JSON cannot hold', () => {
    const MAX = Number.MAX_VALUE;
    const signals: Record<string, (i: number) => number> = {
      zeros: () => 0,
      largest: () => MAX,
      'from end to end': (i) => (i % 2 === 0 ? MAX : -MAX),
      'one spike in noise': (i) => (i === 700 ? 1e308 : Math.sin(i * 7) * 0.01),
      denormal: (i) => (i % 3) * 5e-324,
    };
    for (const [what, signal] of Object.entries(signals))
      for (const rate of [1e-6, 8, 31.25, 2000, 1e6, 1e300])
        for (const start of [0, START, 8.64e15]) {
          const straight = hostile(signal, rate, start, (state) => state);
          const saved = hostile(signal, rate, start, (state) => JSON.parse(JSON.stringify(state)) as StationState);
          const where = `${what}, ${rate} Hz, ${start}`;
          expect(straight.told, where).toEqual(saved.told);
          // NaN of `last` means "no sample yet" and is read back as that.
          expect(JSON.stringify(straight), where).toBe(JSON.stringify(saved));
          const numbers = JSON.stringify({ ...straight.state, last: [], told: straight.told });
          expect(numbers.match(/[^"]\bnull\b/g) ?? [], where).toHaveLength(
            [straight.state?.trigger, straight.state?.behind].filter((one) => one === null).length,
          );
        }
  });

  test('after samples beyond any sensor it hears again', () => {
    const trace = noise('s', HERE, 400, 23);
    for (const axis of trace.axes) axis[1000] = -1e308;
    for (const axis of [0, 1, 2]) add(trace, axis, 360, burst(0.05, 5, axis + 1));
    const { picks } = run(packets(trace));
    expect(picks.some(({ at }) => Math.abs(at - (START + 360_000)) < 1000)).toBe(true);
  });

  test('its state stays below 2 KB', () => {
    expect(JSON.stringify(run(packets(quake(31.25, 21))).state).length).toBeLessThan(2048);
  });
});
