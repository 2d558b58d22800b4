/** Recorded earthquakes through the whole of `tocsin replay`, as they are and with what is no earthquake added. */
import { describeWith } from '@tocsin/testkit/needs';
import { sharedPath } from '@tocsin/testkit/machine';
import { beforeAll, expect, test } from 'vitest';
import type { Place } from '../../detectors/travel.ts';
import { runCommandLine } from './command-line.ts';
import { createReplay, type ReplayAlert } from './replay-network.ts';
import { readMessages, readStations, readTruth, type RecordedMessage, type TrueEvent } from './replay-recording.ts';
import { scriptedTerminal } from './scripted-terminal.suite.ts';

const folder = (name: string): string => sharedPath('data', 'earthquakes', name);
/** Three with long noise before, of 4.1, 5.3 with a restless station, and 5.3 near stations. */
const EVENTS = ['2017_12_16', '2018_8_22', '2020_1_30'] as const;

type Change = (sample: number, seconds: number, axis: number) => number;

/** The message with its samples changed; `seconds` is the time of the sample by the station's clock, Unix s. */
function changed(message: RecordedMessage, change: Change): RecordedMessage {
  const { packet } = message;
  const axes = packet.axes.map((axis, which) =>
    axis.map((sample, i) => change(sample, packet.at / 1000 + i / packet.rate, which)),
  );
  return { ...message, packet: { ...packet, axes } };
}

describeWith(['shared-data'], 'recorded earthquakes', () => {
  const files = new Map<string, readonly RecordedMessage[]>();
  let stations: ReadonlyMap<string, Place> = new Map();
  let truth: ReadonlyMap<string, TrueEvent> = new Map();

  beforeAll(async () => {
    stations = await readStations(folder('stations.csv'));
    truth = await readTruth(folder('events.csv'));
    for (const event of EVENTS) {
      const messages: RecordedMessage[] = [];
      for await (const message of readMessages(folder(`${event}.jsonl.gz`), () => undefined)) messages.push(message);
      files.set(event, messages);
    }
  });

  /** Alerts of a file; the first earthquake of it must still be among them and be the only one. */
  function replay(
    event: string,
    map: (message: RecordedMessage, first: number) => RecordedMessage,
  ): readonly ReplayAlert[] {
    const run = createReplay(stations);
    const messages = files.get(event) ?? [];
    const first = (messages[0]?.now ?? 0) / 1000;
    for (const message of messages) run.message(map(message, first));
    return run.alerts();
  }

  function expectOnlyTheEarthquake(event: string, alerts: readonly ReplayAlert[]): void {
    const origin = truth.get(event)?.origin ?? 0;
    expect(
      alerts.filter(({ first }) => first.onset < origin),
      `${event}: before the origin`,
    ).toEqual([]);
    expect(alerts, event).toHaveLength(1);
  }

  test('all are found, nothing else is, half of them before the fourth P and the worst within 5 s', async () => {
    const terminal = scriptedTerminal();
    const paths = [...truth.keys()].map((event) => folder(`${event}.jsonl.gz`));
    const args = ['replay', '--json', '--stations', folder('stations.csv'), '--truth', folder('events.csv'), ...paths];
    expect(await runCommandLine(args, { env: {}, cwd: '/', terminal, events: process })).toBe(0);
    const lines = terminal.stdout().trim().split('\n');
    const { score } = JSON.parse(lines.at(-1) ?? '') as {
      score: { found: number; missed: number; falseAlarms: number; median: number; worst: number };
    };
    expect(score).toMatchObject({ found: paths.length, missed: 0, falseAlarms: 0 });
    expect(score.median).toBeLessThan(1);
    expect(score.worst).toBeLessThan(5);
    expect(lines).toHaveLength(paths.length + 1);
    expect(Object.keys(JSON.parse(lines[0] ?? '') as object)).toEqual([
      'event',
      'kind',
      'onset',
      'decidedAt',
      'latitude',
      'longitude',
      'stations',
    ]);
  });

  test('a sensor that is bumped again and again adds no alert', () => {
    for (const event of EVENTS) {
      const alerts = replay(event, (message, first) =>
        message.deviceId === '020' || message.deviceId === '009'
          ? changed(message, (sample, seconds, axis) => {
              const since = (seconds - first - (message.deviceId === '020' ? 25 : 36)) % 23;
              return since < 0 ? sample : sample + 8 * Math.exp(-since / 0.6) * Math.sin(25 * since + axis);
            })
          : message,
      );
      expectOnlyTheEarthquake(event, alerts);
    }
  });

  test('a lorry beside a station, and one beside two that are 3 km apart, add no alert', () => {
    for (const event of EVENTS) {
      const alerts = replay(event, (message, first) =>
        ['011', '014'].includes(message.deviceId)
          ? changed(message, (sample, seconds, axis) => {
              const since = seconds - first - (message.deviceId === '011' ? 30 : 33);
              const near = Math.exp(-(((since - 8) / 5) ** 2));
              return (
                sample + near * (0.5 * Math.sin(28 * since + axis) + 0.4 * Math.sin(41 * since * (1 + 0.01 * axis)))
              );
            })
          : message,
      );
      expectOnlyTheEarthquake(event, alerts);
    }
  });

  test('the same spike on all stations at once, as mains make it, adds no alert', () => {
    for (const event of EVENTS)
      for (const ringing of [0.03, 0.3, 1.2]) {
        const alerts = replay(event, (message, first) =>
          changed(message, (sample, seconds, axis) => {
            const since = seconds - first - 35;
            return since >= 0 && since < ringing ? sample + 10 * Math.cos(22 * since + axis) : sample;
          }),
        );
        expectOnlyTheEarthquake(event, alerts);
      }
  });

  test('wrong clocks change neither the alert nor its moment', () => {
    for (const event of EVENTS) {
      const right = replay(event, (message) => message);
      const wrong = replay(event, (message) => {
        const skew = (Number(message.deviceId) % 4) * 1_800_000 - 2_700_000;
        return { ...message, packet: { ...message.packet, at: message.packet.at + skew } };
      });
      expectOnlyTheEarthquake(event, wrong);
      expect(Math.abs((wrong[0]?.first.onset ?? 0) - (right[0]?.first.onset ?? 0))).toBeLessThan(2000);
      expect(Math.abs((wrong[0]?.decidedAt ?? 0) - (right[0]?.decidedAt ?? 0))).toBeLessThan(3000);
    }
  });

  test('every clock wrong by the same days, as in a recording that is played again, gives the same alerts', () => {
    for (const event of EVENTS) {
      const day = 86_400_000 * 400;
      const later = replay(event, (message) => ({
        ...message,
        now: message.now + day,
        packet: { ...message.packet, at: message.packet.at + day },
      }));
      const straight = replay(event, (message) => message);
      expect(later.map(({ decidedAt }) => decidedAt - day)).toEqual(straight.map(({ decidedAt }) => decidedAt));
      expect(later.map(({ first }) => first.evidence['stations'])).toEqual(
        straight.map(({ first }) => first.evidence['stations']),
      );
    }
  });

  test('every message twice, and every tenth lost, still finds them and nothing else', () => {
    for (const event of EVENTS) {
      const run = createReplay(stations);
      (files.get(event) ?? []).forEach((message, i) => {
        if (i % 10 === 3) return;
        run.message(message);
        run.message(message);
      });
      expectOnlyTheEarthquake(event, run.alerts());
    }
  });

  test('the same earthquake five times as strong a minute later is told, a fifth as strong it is not', () => {
    const event = '2020_1_30';
    const origin = truth.get(event)?.origin ?? 0;
    const later = 59;
    for (const [first, second, alerts] of [
      [0.2, 1, 2],
      [1, 0.2, 1],
    ] as const) {
      const run = createReplay(stations);
      const earlier = new Map<string, RecordedMessage[]>();
      for (const message of files.get(event) ?? []) {
        const own = earlier.get(message.deviceId) ?? [];
        earlier.set(message.deviceId, own);
        own.push(message);
        const old = own.at(-1 - later);
        const shaken = message.packet.at > origin ? first : 1;
        const added = (axis: number, i: number): number =>
          old !== undefined && old.packet.at > origin ? second * (old.packet.axes[axis]?.[i] ?? 0) : 0;
        const axes = message.packet.axes.map((axis, which) =>
          axis.map((sample, i) => shaken * sample + added(which, i)),
        );
        run.message({ ...message, packet: { ...message.packet, axes } });
      }
      expect(run.alerts(), `${first} then ${second}`).toHaveLength(alerts);
    }
  });
});
