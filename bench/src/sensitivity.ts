/**
 * Threshold x quorum: earthquakes found, seconds after the fourth P, and false alarms for each station-hour of noise.
 * Noise: what the recordings hold before the origin, as it is, and the same noise put together anew for each network
 * (each station's pieces repeated from another moment on), so that there is enough of it; without recordings white noise.
 */
import { join } from 'node:path';
import { readdirSync } from 'node:fs';
import { createReplay, type ReplayOptions } from '@tocsin/server/app/commands/replay-network';
import {
  readMessages,
  readStations,
  readTruth,
  type RecordedMessage,
  type TrueEvent,
} from '@tocsin/server/app/commands/replay-recording';
import { fourthArrival, scoreFile, sumScores } from '@tocsin/server/app/commands/replay-score';
import type { Place } from '@tocsin/server/detectors/travel';
import { NETWORK, PICKER } from '@tocsin/server/profiles/seismic/detection';
import { lacking, sharedPath } from '@tocsin/testkit/machine';
import type { BenchResult, ResultRow } from './table.ts';

const SIGMAS = [3.5, 4, 4.5, 5, 6] as const;
const QUORUMS = [3, 4, 5, 6] as const;
/** Hours of noise that each recording's stations get. */
const HOURS = 0.5;
const HOUR_MS = 3_600_000;

interface Recording {
  readonly truth: TrueEvent;
  readonly messages: readonly RecordedMessage[];
  readonly fourth: number;
}

/** Runs it. */
export async function benchSensitivity(): Promise<BenchResult> {
  const reason = lacking('shared-data');
  if (reason !== null) return { name: 'sensitivity', rows: [], notes: [reason] };
  const folder = sharedPath('data', 'earthquakes');
  const stations = await readStations(join(folder, 'stations.csv'));
  const recordings = await readAll(folder, stations);
  const noise = recordings.map((recording, i) => longNoise(recording, i));
  const hours = noise.flat().reduce((sum, { packet }) => sum + (packet.axes[0]?.length ?? 0) / packet.rate / 3600, 0);
  const rows: ResultRow[] = [];
  const notes = [`${hours.toFixed(0)} station-hours of noise; rows: found, then false alarms for each station-hour`];
  for (const onSigma of SIGMAS)
    for (const quorum of QUORUMS) {
      const options: ReplayOptions = { picker: { ...PICKER, onSigma }, network: { ...NETWORK, quorum } };
      const score = scoreAll(recordings, stations, options);
      const alarms = noise.reduce((sum, messages) => sum + run(messages, stations, options).length, 0);
      const what = `${onSigma} sigma, quorum ${quorum}`;
      rows.push({ what, ours: score.found, unit: `of ${recordings.length}`, limit: null, limitIs: '', aim: '8' });
      notes.push(
        `${what}: found ${score.found}, false ${score.falseAlarms} in the recordings, median ${score.median?.toFixed(2) ?? '-'} s, ` +
          `worst ${score.worst?.toFixed(2) ?? '-'} s; ${alarms} alarms in noise = ${(alarms / hours).toFixed(4)} for each station-hour`,
      );
    }
  return { name: 'sensitivity', rows, notes };
}

async function readAll(folder: string, stations: ReadonlyMap<string, Place>): Promise<Recording[]> {
  const truths = await readTruth(join(folder, 'events.csv'));
  const recordings: Recording[] = [];
  for (const name of readdirSync(folder).filter((file) => file.endsWith('.jsonl.gz'))) {
    const truth = truths.get(name.replace('.jsonl.gz', ''));
    if (truth === undefined) continue;
    const messages: RecordedMessage[] = [];
    for await (const message of readMessages(join(folder, name), () => undefined)) messages.push(message);
    const heard = [...new Set(messages.map(({ deviceId }) => deviceId))].flatMap(
      (device) => stations.get(device) ?? [],
    );
    recordings.push({ truth, messages, fourth: fourthArrival(truth, heard) });
  }
  return recordings;
}

function run(
  messages: readonly RecordedMessage[],
  stations: ReadonlyMap<string, Place>,
  options: ReplayOptions,
): { onset: number; decidedAt: number }[] {
  const replay = createReplay(stations, options);
  for (const message of messages) replay.message(message);
  return replay.alerts().map(({ first, decidedAt }) => ({ onset: first.onset, decidedAt }));
}

function scoreAll(
  recordings: readonly Recording[],
  stations: ReadonlyMap<string, Place>,
  options: ReplayOptions,
): ReturnType<typeof sumScores> {
  return sumScores(
    recordings.map(({ truth, messages, fourth }) => scoreFile(truth, fourth, run(messages, stations, options))),
  );
}

/** Noise of the recording's stations for `HOURS`: each repeats what it had before the origin, begun at another place. */
function longNoise({ truth, messages }: Recording, seed: number): RecordedMessage[] {
  const pieces = new Map<string, RecordedMessage[]>();
  for (const message of messages) {
    if (message.now >= truth.origin) continue;
    const known = pieces.get(message.deviceId);
    if (known === undefined) pieces.set(message.deviceId, [message]);
    else known.push(message);
  }
  const all: RecordedMessage[] = [];
  let index = 0;
  for (const [deviceId, own] of pieces) {
    index += 1;
    let at = truth.origin;
    for (let i = (index * 37 + seed * 11) % own.length; at < truth.origin + HOURS * HOUR_MS; i = (i + 1) % own.length) {
      const packet = own[i]?.packet;
      if (packet === undefined) break;
      const length = ((packet.axes[0]?.length ?? 0) * 1000) / packet.rate;
      all.push({ deviceId, packet: { ...packet, at }, now: Math.round(at + length + 200) });
      at += length;
    }
  }
  return all.sort((a, b) => a.now - b.now);
}
