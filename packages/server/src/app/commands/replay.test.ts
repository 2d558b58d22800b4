import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gunzipSync, gzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { grid, packets, shake, START } from '../../detectors/ground.suite.ts';
import { runCommandLine } from './command-line.ts';
import { scriptedTerminal, type ScriptedTerminal } from './scripted-terminal.suite.ts';
import { fourthArrival, scoreFile, sumScores } from './replay-score.ts';
import { readMessages, readStations, stemOf } from './replay-recording.ts';

let folder = '';
const path = (name: string): string => join(folder, name);

async function replay(...args: string[]): Promise<{ code: number; terminal: ScriptedTerminal }> {
  const terminal = scriptedTerminal();
  return {
    code: await runCommandLine(['replay', ...args], { env: {}, cwd: folder, terminal, events: process }),
    terminal,
  };
}

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'tocsin-replay-'));
  const traces = grid(3, 35, 100);
  shake(traces, { latitude: 16.2, longitude: -98.8 }, 50, 1);
  const lines = traces
    .flatMap((trace) => packets(trace).map((one) => ({ ...one, deviceId: trace.deviceId })))
    .sort((a, b) => a.now - b.now)
    .map(({ packet, now, deviceId }) => {
      const [x = [], y = [], z = []] = packet.axes;
      const last = packet.at + ((x.length - 1) * 1000) / packet.rate;
      return JSON.stringify({
        device_id: deviceId,
        x,
        y,
        z,
        device_t: last / 1000,
        cloud_t: now / 1000,
        sr: packet.rate,
      });
    });
  writeFileSync(path('quake.jsonl.gz'), gzipSync(lines.join('\n')));
  // Out of order within what is put right.
  writeFileSync(path('mixed.jsonl'), `${[...lines.slice(0, 100).reverse(), ...lines.slice(100)].join('\n')}\n`);
  writeFileSync(path('broken.jsonl'), `${lines[0]}\n{"device_id":"s1"\n`);
  writeFileSync(
    path('uneven.jsonl'),
    `${JSON.stringify({ device_id: 's1', x: [1, 2], y: [1], z: [1, 2], device_t: 1, cloud_t: 1, sr: 31.25 })}\n`,
  );
  writeFileSync(path('quiet.jsonl'), lines.slice(0, 200).join('\n'));
  const rows = traces.map(({ deviceId, place }) => `${deviceId},${place.latitude},${place.longitude}`);
  writeFileSync(path('stations.csv'), ['device_id,latitude,longitude', ...rows].join('\n'));
  const truth = (event: string): string => `${event},${(START + 50_000) / 1000},16.2,-98.8,5`;
  writeFileSync(
    path('truth.csv'),
    ['event,origin_epoch_s,latitude,longitude,magnitude', truth('quake'), truth('quiet')].join('\n'),
  );
});

afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe('tocsin replay', () => {
  test('finds the earthquake, plain and packed, in order and a little out of it', async () => {
    const packed = await replay('--json', '--stations', path('stations.csv'), path('quake.jsonl.gz'));
    expect(packed.code).toBe(0);
    const [line] = packed.terminal.stdout().trim().split('\n');
    const alert = JSON.parse(line ?? '') as {
      event: string;
      kind: string;
      onset: number;
      decidedAt: number;
      stations: string[];
    };
    expect(alert).toMatchObject({ event: 'quake', kind: 'seismic.event' });
    expect(alert.decidedAt).toBeGreaterThan(alert.onset);
    expect(alert.stations.length).toBeGreaterThan(1);
    const mixed = await replay('--json', '--stations', path('stations.csv'), path('mixed.jsonl'));
    expect(JSON.parse(mixed.terminal.stdout())).toMatchObject({
      onset: alert.onset,
      decidedAt: alert.decidedAt,
      event: 'mixed',
    });
  });

  test('with the truth it prints the score, and a miss ends with 1', async () => {
    const good = await replay('--stations', path('stations.csv'), '--truth', path('truth.csv'), path('quake.jsonl.gz'));
    expect(good.code).toBe(0);
    expect(good.terminal.stdout()).toContain('found 1, missed 0, false 0');
    const missed = await replay('--stations', path('stations.csv'), '--truth', path('truth.csv'), path('quiet.jsonl'));
    expect(missed.code).toBe(1);
    expect(missed.terminal.stdout()).toContain('found 0, missed 1, false 0');
    const unknown = await replay('--stations', path('stations.csv'), '--truth', path('truth.csv'), path('mixed.jsonl'));
    expect(unknown.terminal.stderr()).toContain('mixed: the truth does not name it');
  });

  test('bad input is wrong use, told with file and line', async () => {
    for (const [args, what] of [
      [['--stations', path('stations.csv'), path('nothing.jsonl')], 'nothing.jsonl cannot be read'],
      [['--stations', path('nothing.csv'), path('quake.jsonl.gz')], 'nothing.csv cannot be read'],
      [['--stations', path('stations.csv'), path('broken.jsonl')], 'broken.jsonl:2: not JSON'],
      [['--stations', path('stations.csv'), path('uneven.jsonl')], 'uneven.jsonl:1: x, y and z must be equally long'],
      [['--stations', path('truth.csv'), path('quake.jsonl.gz')], 'truth.csv:1: the column device_id is missing'],
      [[path('quake.jsonl.gz')], '--stations is missing'],
      [['--stations', path('stations.csv')], 'an argument is missing'],
    ] as const) {
      const { code, terminal } = await replay(...args);
      expect(code, what).toBe(64);
      expect(terminal.stderr()).toContain(what);
    }
  });

  test('a table may quote its fields, order its columns otherwise and leave others empty', async () => {
    const rows = ['name,longitude,latitude,device_id', '"Playa, ""Sur""",-99.5,"16.25","s1"', ',-98, 15 , s2'];
    writeFileSync(path('quoted.csv'), `\uFEFF${rows.join('\r\n')}\r\n`);
    expect([...(await readStations(path('quoted.csv')))]).toEqual([
      ['s1', { latitude: 16.25, longitude: -99.5 }],
      ['s2', { latitude: 15, longitude: -98 }],
    ]);
  });

  test('a file of thousands of messages in any order is read in the order of arrival', async () => {
    const order = Array.from({ length: 9000 }, (_, i) => (i * 4001) % 9000);
    const message = (i: number): string => JSON.stringify({ device_id: 's', x: [1], device_t: i, cloud_t: i, sr: 50 });
    writeFileSync(path('any.jsonl'), order.map(message).join('\n'));
    const times: number[] = [];
    for await (const { now } of readMessages(path('any.jsonl'), () => undefined)) times.push(now / 1000);
    expect(times).toEqual(Array.from({ length: 9000 }, (_, i) => i));
  });

  test('an axis that a sensor has not is absent or null; a time that is none is wrong use', async () => {
    const one = { device_id: 's1', x: null, y: [1, 2], z: [3, 4], device_t: 1.7e9, cloud_t: 1.7e9, sr: 50 };
    writeFileSync(path('two.jsonl'), `\r\n${JSON.stringify(one)}\r\n\r\n`);
    const read: unknown[] = [];
    for await (const { packet } of readMessages(path('two.jsonl'), () => undefined)) read.push(packet.axes);
    expect(JSON.stringify(read)).toBe('[[[1,2],[3,4]]]');
    writeFileSync(path('never.jsonl'), JSON.stringify({ ...one, device_t: 1e300 }));
    const { code, terminal } = await replay('--stations', path('stations.csv'), path('never.jsonl'));
    expect(code).toBe(64);
    expect(terminal.stderr()).toContain('never.jsonl:1: device_t and cloud_t must be Unix seconds');
  });

  test('a last line that breaks off, as in a recording that was cut, is left out and said', async () => {
    const lines = gunzipSync(readFileSync(path('quake.jsonl.gz'))).toString('utf8');
    writeFileSync(path('cut.jsonl'), `${lines}\n{"device_id":"s1","x":[0.`);
    const { code, terminal } = await replay('--json', '--stations', path('stations.csv'), path('cut.jsonl'));
    expect(code).toBe(0);
    expect(terminal.stdout().trim().split('\n')).toHaveLength(1);
    expect(terminal.stderr()).toMatch(/cut\.jsonl:\d+: the last line breaks off, not used/);
  });

  test('the event of a file is its name without the endings', () => {
    expect(['/a/2018_1_8.jsonl.gz', 'b.jsonl', 'c.gz', 'd'].map(stemOf)).toEqual(['2018_1_8', 'b', 'c', 'd']);
  });
});

describe('the score', () => {
  const truth = { event: 'e', origin: 100_000, latitude: 0, longitude: 0, magnitude: 5, fourthKm: 48 };
  test('the fourth P is 52 km away at 6.5 km/s', () => {
    expect(fourthArrival(truth, [])).toBe(108_000);
    const places = [0, 0.1, 0.2, 48 / 111.195, 3].map((longitude) => ({ latitude: 0, longitude }));
    expect(fourthArrival({ ...truth, fourthKm: null }, places)).toBeCloseTo(108_000, -1);
  });

  test('an alert before the origin, one too late and a second one are false', () => {
    const score = (...onsets: number[]): unknown => {
      const { found, falseAlarms } = scoreFile(
        truth,
        108_000,
        onsets.map((onset) => ({ onset, decidedAt: onset + 1000 })),
      );
      return [found, falseAlarms];
    };
    expect(score(104_000)).toEqual([true, 0]);
    expect(score(99_000)).toEqual([false, 1]);
    expect(score(139_000)).toEqual([false, 1]);
    expect(score(104_000, 110_000)).toEqual([true, 1]);
    expect(score()).toEqual([false, 0]);
  });

  test('the median of an even number lies between the two in the middle', () => {
    const file = (
      delay: number | null,
    ): { event: string; found: boolean; falseAlarms: number; delay: number | null } => ({
      event: '',
      found: delay !== null,
      falseAlarms: 0,
      delay,
    });
    expect(sumScores([file(1), file(4), file(null), file(2), file(3)])).toEqual({
      found: 4,
      missed: 1,
      falseAlarms: 0,
      median: 2.5,
      worst: 4,
    });
    expect(sumScores([]).median).toBeNull();
  });
});
