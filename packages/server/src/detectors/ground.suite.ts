/** Ground motion for tests: the same noise in every run, earthquakes, and what is none. Accelerations in m/s². */
import type { NetworkInput, NetworkState } from './network-state.ts';
import { networkDetector } from './network.ts';
import type { Finding } from './detector.ts';
import { NETWORK, PICKER } from '../profiles/seismic/detection.ts';
import { createStationPicker } from './station.ts';
import type { Packet, StationState } from './station-state.ts';
import { distanceKm, offset, type Place } from './travel.ts';

/** Noise of a cheap accelerometer, rms. */
export const NOISE = 0.001;
export const START = 1_700_000_000_000;

/** Normal numbers that are the same in every run. */
export function normal(seed: number): () => number {
  let state = (seed * 2_654_435_761) >>> 0 || 1;
  const uniform = (): number => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return ((state >>> 0) + 0.5) / 4_294_967_296;
  };
  return () => Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform());
}

/** A sensor's three axes. */
export interface Trace {
  readonly deviceId: string;
  readonly place: Place;
  readonly rate: number;
  readonly axes: number[][];
}

/** A trace of noise. */
export function noise(deviceId: string, place: Place, seconds: number, seed: number, rate = 31.25, rms = NOISE): Trace {
  const next = normal(seed);
  const axes = [0, 1, 2].map(() => Array.from({ length: Math.round(seconds * rate) }, () => rms * next()));
  return { deviceId, place, rate, axes };
}

/** Adds `shape(seconds since then)` to an axis from the second `from` on. */
export function add({ axes, rate }: Trace, axis: number, from: number, shape: (seconds: number) => number): void {
  const samples = axes[axis];
  if (samples === undefined) return;
  for (let i = Math.max(0, Math.ceil(from * rate)); i < samples.length; i += 1)
    samples[i] = (samples[i] ?? 0) + shape(i / rate - from);
}

/** An onset that rises within a quarter of a second and dies away over `decay` seconds: random, most around 4 Hz. */
export function burst(peak: number, decay: number, seed: number): (seconds: number) => number {
  const next = normal(seed);
  const tones = Array.from({ length: 12 }, () => ({ hz: 2 + 5 * Math.abs(next()) * 0.5, phase: 6.28 * next() }));
  return (t) =>
    (peak *
      Math.min(1, t / 0.25) *
      Math.exp(-t / decay) *
      0.4 *
      tones.reduce((sum, { hz, phase }) => sum + Math.sin(6.283 * hz * t + phase), 0)) /
    2;
}

/** An earthquake at `source` at the second `origin`: P mostly upright, S on the others, ten times as strong. `size` at 10 km. */
export function shake(traces: readonly Trace[], source: Place, origin: number, size: number): void {
  traces.forEach((trace, i) => {
    const km = Math.hypot(distanceKm(source, trace.place), 20);
    const peak = size * (10 / km) ** 1.5;
    const [p, s] = [km / 6.5, (km / 6.5) * 1.73];
    for (let axis = 0; axis < 3; axis += 1) {
      add(trace, axis, origin + p, burst(axis === 0 ? 0.2 * peak : 0.05 * peak, 8, i * 7 + axis + 1));
      add(trace, axis, origin + s, burst(axis === 0 ? 0.4 * peak : peak, 10, i * 13 + axis + 100));
    }
  });
}

/** Stations on a grid of `side` x `side`, `km` apart. */
export function grid(side: number, km: number, seconds: number, seed = 1): Trace[] {
  const corner: Place = { latitude: 16, longitude: -99 };
  return Array.from({ length: side * side }, (_, i) => {
    const place = offset(offset(corner, Math.floor(i / side) * km + 0.001, 0), (i % side) * km + 0.001, 90);
    return noise(`s${i}`, place, seconds, seed * 1000 + i);
  });
}

/** Packets of about a second, with the time of arrival: a little after the last sample. `skew` is the device's clock minus ours, ms. */
export function packets(trace: Trace, skew = 0, latency = 200): { packet: Packet; now: number }[] {
  const { rate, axes } = trace;
  const size = Math.round(rate);
  const total = axes[0]?.length ?? 0;
  return Array.from({ length: Math.floor(total / size) }, (_, i) => {
    const at = START + (i * size * 1000) / rate;
    const part = axes.map((axis) => axis.slice(i * size, (i + 1) * size));
    return { packet: { at: at + skew, rate, axes: part }, now: Math.round(at + (size * 1000) / rate + latency) };
  });
}

/** What a network of traces finds: the same order as in the log, by arrival. */
export function listen(
  traces: readonly Trace[],
  skew: (deviceId: string) => number = () => 0,
): { findings: Finding[]; told: NetworkInput[]; network: NetworkState | null } {
  const picker = createStationPicker(PICKER);
  const detector = networkDetector(NETWORK);
  const all = traces.flatMap((trace) =>
    packets(trace, skew(trace.deviceId)).map(({ packet, now }) => ({ trace, packet, now })),
  );
  const states = new Map<string, StationState | null>();
  const findings: Finding[] = [];
  const told: NetworkInput[] = [];
  let network: NetworkState | null = null;
  for (const { trace, packet, now } of all.sort((a, b) => a.now - b.now)) {
    const { deviceId, place } = trace;
    const step = picker.step(states.get(deviceId) ?? null, packet, now);
    states.set(deviceId, step.state);
    for (const one of step.told) {
      const input: NetworkInput = { ...one, ...place, deviceId, envelopeId: 'e' };
      told.push(input);
      const next = detector.step(network, 'network:test', input, now);
      network = next.state;
      findings.push(...next.findings);
    }
  }
  return { findings, told, network };
}
