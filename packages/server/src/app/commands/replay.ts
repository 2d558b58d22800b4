/** `tocsin replay`: recorded waveforms through the detectors, offline, as fast as they can; each file from fresh state. */
import { stat } from 'node:fs/promises';
import type { Place } from '../../detectors/travel.ts';
import { readArguments } from './arguments.ts';
import { type Command, requireSettings } from './command.ts';
import { EXIT, UsageError } from './exit-codes.ts';
import { createReplay, type ReplayAlert } from './replay-network.ts';
import { readMessages, readStations, readTruth, stemOf, type TrueEvent } from './replay-recording.ts';
import { fourthArrival, scoreFile, sumScores, type FileScore } from './replay-score.ts';
import { createProgress } from './progress.ts';
import { formatTable } from './table.ts';
import type { Terminal } from './terminal.ts';

const MOST_FILES = 10_000;
/** Messages between two looks at the progress. */
const PROGRESS_EVERY = 1000;

/** The command. */
export const replayCommand: Command = {
  name: 'replay',
  usage: '--stations <csv> [--truth <csv>] [--json] <file.jsonl[.gz]>…',
  summary:
    'run recorded waveforms through the detectors; with --truth score the alerts and end with 1 on a miss or a false alarm',
  async run(args, context) {
    // It needs none of them; a mistake in them is told at every start all the same.
    requireSettings(context);
    const { terminal } = context;
    const read = readArguments(
      args,
      { stations: { type: 'string' }, truth: { type: 'string' }, json: { type: 'boolean' } },
      { least: 1, most: MOST_FILES },
    );
    const stationsPath = read.text('stations');
    if (stationsPath === undefined) throw new UsageError('--stations is missing');
    const truthPath = read.text('truth');
    const stations = await readStations(stationsPath);
    const truth = truthPath === undefined ? null : await readTruth(truthPath);
    const json = read.flag('json');
    const results: FileResult[] = [];
    for (const path of read.positionals) {
      const result = await replayFile(path, stations, truth, terminal);
      results.push(result);
      if (json) for (const alert of result.alerts) terminal.out(`${JSON.stringify(alertLine(result.event, alert))}\n`);
    }
    if (!json) terminal.out(alertTable(results));
    return truth === null ? EXIT.done : report(results, json, terminal);
  },
};

interface FileResult {
  readonly event: string;
  readonly alerts: readonly ReplayAlert[];
  readonly score: FileScore | null;
  readonly hasTruth: boolean;
}

async function replayFile(
  path: string,
  stations: ReadonlyMap<string, Place>,
  truth: ReadonlyMap<string, TrueEvent> | null,
  terminal: Terminal,
): Promise<FileResult> {
  const event = stemOf(path);
  const size = await sizeOf(path);
  const replay = createReplay(stations);
  const heard = new Set<string>();
  let bytes = 0;
  let messages = 0;
  const note = (text: string): void => terminal.err(`${text}\n`);
  const progress = createProgress(terminal, event);
  for await (const message of readMessages(path, (count) => (bytes += count), note)) {
    replay.message(message);
    heard.add(message.deviceId);
    messages += 1;
    if (messages % PROGRESS_EVERY === 0) progress.show(bytes / Math.max(1, size));
  }
  const alerts = replay.alerts();
  const noun = alerts.length === 1 ? 'alert' : 'alerts';
  progress.done(`${event}: ${messages} messages, ${heard.size} stations, ${alerts.length} ${noun}`);
  const placeless = replay.placeless();
  if (placeless.length > 0) terminal.err(`${event}: without a place, not used: ${placeless.slice(0, 20).join(', ')}\n`);
  const known = truth?.get(event);
  if (known === undefined) return { event, alerts, score: null, hasTruth: false };
  const places = [...heard].flatMap((deviceId) => stations.get(deviceId) ?? []);
  const scored = alerts.map(({ first, decidedAt }) => ({ onset: first.onset, decidedAt }));
  return { event, alerts, score: scoreFile(known, fourthArrival(known, places), scored), hasTruth: true };
}

async function sizeOf(path: string): Promise<number> {
  try {
    return (await stat(path)).size;
  } catch (error) {
    throw new UsageError(`${path} cannot be read: ${error instanceof Error ? error.message : String(error)}`);
  }
}

/** Stations that an alert named when it was decided. */
function stationsOf({ first }: ReplayAlert): readonly string[] {
  return (first.evidence['picks'] as readonly { readonly deviceId: string }[]).map(({ deviceId }) => deviceId);
}

function alertLine(event: string, alert: ReplayAlert): object {
  const { kind, onset, latitude, longitude } = alert.first;
  return { event, kind, onset, decidedAt: alert.decidedAt, latitude, longitude, stations: stationsOf(alert) };
}

function alertTable(results: readonly FileResult[]): string {
  const rows = results.flatMap(({ event, alerts }) =>
    alerts.map((alert) => [
      event,
      alert.first.kind,
      new Date(alert.first.onset).toISOString(),
      `+${((alert.decidedAt - alert.first.onset) / 1000).toFixed(1)} s`,
      `${alert.first.latitude ?? ''} ${alert.first.longitude ?? ''}`,
      stationsOf(alert).join(' '),
      String(alert.latest.evidence['stations']),
    ]),
  );
  if (rows.length === 0) return 'no alerts\n';
  return formatTable(['event', 'kind', 'onset', 'decided', 'place', 'decided by', 'felt by'], rows);
}

function report(results: readonly FileResult[], json: boolean, terminal: Terminal): 0 | 1 {
  for (const { event, hasTruth } of results)
    if (!hasTruth) terminal.err(`${event}: the truth does not name it, not scored\n`);
  const files = results.flatMap(({ score }) => score ?? []);
  const score = sumScores(files);
  if (json) terminal.out(`${JSON.stringify({ score: { ...score, events: files } })}\n`);
  else {
    const seconds = (value: number | null): string => (value === null ? '-' : value.toFixed(2));
    const rows = files.map(({ event, found, falseAlarms, delay }) => [
      event,
      found ? 'found' : 'missed',
      String(falseAlarms),
      seconds(delay),
    ]);
    terminal.out(`\n${formatTable(['event', 'result', 'false', 's after the fourth P'], rows)}`);
    terminal.out(
      `\nfound ${score.found}, missed ${score.missed}, false ${score.falseAlarms}; ` +
        `seconds after the fourth P: median ${seconds(score.median)}, worst ${seconds(score.worst)}\n`,
    );
  }
  return score.missed === 0 && score.falseAlarms === 0 ? EXIT.done : EXIT.failed;
}
