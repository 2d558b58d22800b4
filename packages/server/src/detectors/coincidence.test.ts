/**
 * An outside oracle: four stations, filter, STA/LTA and quorum with the results that ObsPy publishes for them. The
 * filter and the STA/LTA are the picker's; the coincidence of overlapping triggers is ObsPy's rule, written again here.
 */
import { readFileSync, readdirSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import { describeWith } from '@tocsin/testkit/needs';
import { sharedPath } from '@tocsin/testkit/machine';
import { expect, test } from 'vitest';
import { butterworthBandPass } from './butterworth.ts';
import { recursiveStaLta } from './sta-lta.ts';

interface Trace {
  readonly station: string;
  /** Seconds after 16:00:00. */
  readonly start: number;
  readonly rate: number;
  readonly samples: readonly number[];
}

interface Triggered {
  readonly station: string;
  readonly on: number;
  readonly off: number;
}

const [ON, OFF, STA, LTA] = [3.5, 1, 0.5, 10];
const FOLDER = sharedPath('data', 'coincidence');

function readSlist(path: string): Trace {
  const [head = '', ...lines] = gunzipSync(readFileSync(path)).toString('latin1').split('\n');
  const [, name = '', , rate = '', time = ''] =
    /^TIMESERIES (\S+), (\d+) samples, ([\d.]+) sps, (\S+),/.exec(head) ?? [];
  const samples = lines.join(' ').trim().split(/\s+/).map(Number);
  const start = (Date.parse(`${time.slice(0, 23)}Z`) - Date.parse('2010-05-27T16:00:00Z')) / 1000;
  return { station: name.split('_')[1] ?? '', start, rate: Number(rate), samples };
}

function filtered({ samples, rate }: Trace): number[] {
  const sections = butterworthBandPass(4, 10, 20, rate);
  const delays = sections.map(() => [0, 0]);
  return samples.map((sample) =>
    sections.reduce((value, { b0, b1, b2, a1, a2 }, i) => {
      const [one = 0, two = 0] = delays[i] ?? [];
      const out = b0 * value + one;
      delays[i] = [b1 * value - a1 * out + two, b2 * value - a2 * out];
      return out;
    }, sample),
  );
}

function triggersOf(trace: Trace): Triggered[] {
  const ratios = recursiveStaLta(filtered(trace), Math.round(STA * trace.rate), Math.round(LTA * trace.rate));
  const triggers: Triggered[] = [];
  let on = -1;
  ratios.forEach((ratio, i) => {
    if (on < 0 && ratio > ON) on = i;
    else if (on >= 0 && !(ratio > OFF)) {
      triggers.push({
        station: trace.station,
        on: trace.start + on / trace.rate,
        off: trace.start + (i - 1) / trace.rate,
      });
      on = -1;
    }
  });
  return triggers;
}

interface Coincidence {
  readonly from: number;
  readonly seconds: number;
  readonly stations: readonly string[];
  readonly sum: number;
}

/** Triggers that overlap, one after another; events that end with the one before are parts of it. */
function coincidences(
  triggers: readonly Triggered[],
  weight: (station: string) => number,
  least: number,
): Coincidence[] {
  const sorted = triggers.toSorted((a, b) => a.on - b.on);
  const events: Coincidence[] = [];
  let lastOff = -Infinity;
  sorted.forEach((first, index) => {
    const stations = [first.station];
    let off = first.off;
    for (const next of sorted.slice(index + 1)) {
      if (stations.includes(next.station)) continue;
      if (next.on > off) break;
      stations.push(next.station);
      off = Math.max(off, next.off);
    }
    const sum = stations.reduce((total, station) => total + weight(station), 0);
    if (sum < least || off <= lastOff) return;
    lastOff = off;
    events.push({ from: first.on, seconds: off - first.on, stations, sum });
  });
  return events;
}

const at = (minute: number, second: number): number => minute * 60 + second;

describeWith(['shared-data'], 'the network trigger with a known answer', () => {
  const traces = readdirSync(FOLDER)
    .filter((name) => name.includes('HZ.'))
    .map((name) => readSlist(`${FOLDER}/${name}`));
  const triggers = traces.flatMap(triggersOf);

  test('three of four stations make exactly the three events, with stations and order', () => {
    const events = coincidences(triggers, () => 1, 3);
    expect(events.map(({ sum }) => sum)).toEqual([4, 3, 4]);
    expect(events[0]?.stations).toEqual(['UH3', 'UH2', 'UH1', 'UH4']);
    expect(events[1]?.stations).toEqual(['UH2', 'UH3', 'UH1']);
    const starts = [at(24, 33), at(27, 1), at(27, 30)];
    events.forEach(({ from }, i) => expect(Math.abs(from - (starts[i] ?? 0))).toBeLessThanOrEqual(3));
    const lengths = [
      [4.2, 4.8],
      [3.2, 3.7],
      [4.2, 4.4],
    ];
    events.forEach(({ seconds }, i) => {
      expect(seconds).toBeGreaterThan(lengths[i]?.[0] ?? 0);
      expect(seconds).toBeLessThan(lengths[i]?.[1] ?? 0);
    });
  });

  test('without one station there are two', () => {
    expect(
      coincidences(
        triggers.filter(({ station }) => station !== 'UH2'),
        () => 1,
        3,
      ),
    ).toHaveLength(2);
  });

  test('with weights the sums are those of the oracle', () => {
    const weights: Readonly<Record<string, number>> = { UH1: 0.4, UH2: 0.35, UH3: 0.4, UH4: 0.25 };
    const sums = coincidences(triggers, (station) => weights[station] ?? 0, 1).map(({ sum }) => sum);
    expect(sums.map((sum) => Math.round(sum * 100) / 100)).toEqual([1.4, 1.15, 1.4]);
  });
});
