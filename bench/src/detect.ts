/**
 * Detection: how many samples a core works off from packets to picks, how many stations of 31 Hz that is, how large
 * their state is; against a bare loop (the same filter and averages on the same numbers, nothing else) in the same run.
 */
import { NETWORK, PICKER } from '@tocsin/server/profiles/seismic/detection';
import { butterworthBandPass, type Section } from '@tocsin/server/detectors/butterworth';
import type { NetworkInput, NetworkState } from '@tocsin/server/detectors/network-state';
import { networkDetector } from '@tocsin/server/detectors/network';
import { createStationPicker } from '@tocsin/server/detectors/station';
import type { Packet, StationState } from '@tocsin/server/detectors/station-state';
import type { BenchResult } from './table.ts';

const RATE = 31.25;
const SAMPLES = 32;
const STATIONS = 500;
const SECONDS = 60;
const AXES = 3;
const START = 1_700_000_000_000;
const ROUNDS = 3;

/** Runs it. */
export function benchDetect(): Promise<BenchResult> {
  const noise = makeNoise();
  const rounds = Array.from({ length: ROUNDS }, () => ({ bare: runBare(noise), ours: runStations(noise) }));
  const best = (key: 'bare' | 'ours'): number => Math.max(...rounds.map((round) => round[key].perSecond));
  const last = rounds.at(-1)?.ours;
  const [ours, bare] = [best('ours'), best('bare')];
  const network = runNetwork();
  const state = JSON.stringify(last?.state ?? null);
  return Promise.resolve({
    name: 'detect',
    rows: [
      { what: 'samples (3 axes each)', ours, unit: '/s', limit: bare, limitIs: 'filter and averages alone', aim: '' },
      {
        what: 'stations at 31.25 Hz',
        ours: ours / RATE,
        unit: '',
        limit: bare / RATE,
        limitIs: 'filter and averages alone',
        aim: '5000',
      },
      { what: 'real time, one station', ours: ours / RATE, unit: 'x', limit: null, limitIs: '', aim: '' },
      { what: 'state of a station, JSON', ours: state.length, unit: 'bytes', limit: null, limitIs: '', aim: '' },
      { what: 'picks into a quiet network', ours: network.perSecond, unit: '/s', limit: null, limitIs: '', aim: '' },
      {
        what: 'state of a network, per station',
        ours: network.bytes,
        unit: 'bytes',
        limit: null,
        limitIs: '',
        aim: '',
      },
    ],
    notes: [
      `${STATIONS} stations, ${SECONDS} s of noise in packets of ${SAMPLES} samples and ${AXES} axes; the best of ${ROUNDS} rounds, one core`,
      `${last?.told ?? 0} picks in ${((STATIONS * SECONDS) / 3600).toFixed(1)} station-hours of white noise`,
      'state saved (JSON) after every packet costs beside that: ' + saveCost(last?.state ?? null),
    ],
  });
}

/** The same pseudo-random numbers in every run (xorshift, sum of 12: nearly normal), m/s². */
function makeNoise(): Float64Array {
  let seed = 0x9e3779b9;
  const next = (): number => {
    seed ^= seed << 13;
    seed ^= seed >>> 17;
    seed ^= seed << 5;
    return (seed >>> 0) / 4_294_967_296;
  };
  return Float64Array.from({ length: 65_536 }, () => {
    let sum = -6;
    for (let i = 0; i < 12; i += 1) sum += next();
    return sum * 0.04;
  });
}

function packetsOf(noise: Float64Array, station: number, second: number): number[][] {
  return Array.from({ length: AXES }, (_, axis) => {
    const from = (station * 7919 + second * 104_729 + axis * 15_485_863) % (noise.length - SAMPLES);
    return Array.from(noise.subarray(from, from + SAMPLES));
  });
}

function runStations(noise: Float64Array): { perSecond: number; state: StationState | null; told: number } {
  const picker = createStationPicker(PICKER);
  const states: (StationState | null)[] = Array.from({ length: STATIONS }, () => null);
  let [spent, told] = [0, 0];
  for (let second = 0; second < SECONDS; second += 1) {
    const at = START + second * SAMPLES * (1000 / RATE);
    const packets = states.map((_, station): Packet => ({ at, rate: RATE, axes: packetsOf(noise, station, second) }));
    const from = performance.now();
    for (let station = 0; station < STATIONS; station += 1) {
      const packet = packets[station];
      if (packet === undefined) continue;
      const step = picker.step(states[station] ?? null, packet, at + 1300);
      states[station] = step.state;
      told += step.told.filter(({ kind }) => kind === 'pick').length;
    }
    spent += performance.now() - from;
  }
  return { perSecond: (STATIONS * SECONDS * SAMPLES * 1000) / spent, state: states[0] ?? null, told };
}

/** Filter and averages on the same packets, and nothing else. */
function runBare(noise: Float64Array): { perSecond: number } {
  const sections = butterworthBandPass(PICKER.order, PICKER.lowHz, PICKER.highHz, RATE);
  const size = AXES * sections.length * 2;
  const delays = Array.from({ length: STATIONS }, () => new Float64Array(size));
  const averages = Array.from({ length: STATIONS }, () => new Float64Array(2 * AXES));
  let [spent, triggers] = [0, 0];
  for (let second = 0; second < SECONDS; second += 1) {
    const packets = delays.map((_, station) => packetsOf(noise, station, second));
    const from = performance.now();
    for (let station = 0; station < STATIONS; station += 1) {
      const [packet, delay, average] = [packets[station], delays[station], averages[station]];
      if (packet === undefined || delay === undefined || average === undefined) continue;
      triggers += bareLoop(sections, packet, delay, average);
    }
    spent += performance.now() - from;
  }
  // The sum is used, so that nothing is optimised away.
  return { perSecond: (STATIONS * SECONDS * SAMPLES * 1000) / spent + (triggers < 0 ? 1 : 0) };
}

function bareLoop(
  sections: readonly Section[],
  packet: number[][],
  delay: Float64Array,
  average: Float64Array,
): number {
  const [short, long] = [1 / (PICKER.staSeconds * RATE), 1 / (PICKER.ltaSeconds * RATE)];
  let triggers = 0;
  for (let i = 0; i < SAMPLES; i += 1)
    for (let axis = 0; axis < AXES; axis += 1) {
      let value = packet[axis]?.[i] ?? 0;
      let at = axis * sections.length * 2;
      for (const { b0, b1, b2, a1, a2 } of sections) {
        const out = b0 * value + (delay[at] ?? 0);
        delay[at] = b1 * value - a1 * out + (delay[at + 1] ?? 0);
        delay[at + 1] = b2 * value - a2 * out;
        value = out;
        at += 2;
      }
      const energy = value * value;
      const sta = (average[2 * axis] ?? 0) + short * (energy - (average[2 * axis] ?? 0));
      const lta = (average[2 * axis + 1] ?? 0) + long * (energy - (average[2 * axis + 1] ?? 0));
      average[2 * axis] = sta;
      average[2 * axis + 1] = lta;
      if (sta > 4 * lta) triggers += 1;
    }
  return triggers;
}

/** Chance picks of a thousand stations over a country, one a second: each searches for company. */
function runNetwork(): { perSecond: number; bytes: number } {
  const detector = networkDetector(NETWORK);
  const count = 1000;
  const picks = 600;
  const input = (kind: 'alive' | 'pick', station: number, at: number): NetworkInput => {
    const place = {
      deviceId: `s${station}`,
      envelopeId: 'e',
      latitude: 15 + ((station * 37) % 100) / 10,
      longitude: -105 + ((station * 61) % 150) / 10,
    };
    if (kind === 'alive') return { kind, at, noise: 0.05, ...place };
    return { kind, at, again: false, amplitude: 0.02, level: 3, lasted: 500, clipped: false, ...place };
  };
  let state: NetworkState | null = null;
  for (let i = 0; i < count; i += 1)
    state = detector.step(state, 'network:bench', input('alive', i, START), START).state;
  const from = performance.now();
  for (let i = 0; i < picks; i += 1) {
    const now = START + i * 1000;
    state = detector.step(state, 'network:bench', input('pick', (i * 7919) % count, now - 1000), now).state;
  }
  const spent = performance.now() - from;
  return { perSecond: (picks * 1000) / spent, bytes: JSON.stringify(state).length / count };
}

function saveCost(state: StationState | null): string {
  const times = 2000;
  const from = performance.now();
  for (let i = 0; i < times; i += 1) JSON.parse(JSON.stringify(state));
  return `${(((performance.now() - from) * 1000) / times).toFixed(1)} µs`;
}
