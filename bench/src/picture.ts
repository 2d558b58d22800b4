/**
 * A picture of a recorded earthquake: the stations by distance, what each heard, its picks, and the moment of the alert.
 * Times are the stations' own for waveforms and picks, the server's for the alert. Written to `docs/detection-<event>.png`.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createReplay } from '@tocsin/server/app/commands/replay-network';
import {
  readMessages,
  readStations,
  readTruth,
  type RecordedMessage,
  type TrueEvent,
} from '@tocsin/server/app/commands/replay-recording';
import { fourthArrival } from '@tocsin/server/app/commands/replay-score';
import { distanceKm, type Place } from '@tocsin/server/detectors/travel';
import { lacking, sharedPath } from '@tocsin/testkit/machine';
import { createCanvas, fill, line, toPng, write, type Canvas, type Colour } from './png.ts';
import type { BenchResult } from './table.ts';

const EVENT = '2020_1_30';
const STATIONS = 12;
/** Seconds that are shown, from the origin. */
const [FROM, TO] = [-10, 50];
const [WIDTH, HEIGHT, LEFT, TOP, BOTTOM] = [1400, 900, 150, 90, 50] as const;
const WHITE: Colour = [255, 255, 255];
const INK: Colour = [40, 40, 48];
const GREY: Colour = [205, 208, 214];
const WAVE: Colour = [60, 90, 140];
const RED: Colour = [205, 40, 40];
const ORANGE: Colour = [230, 140, 30];
const GREEN: Colour = [20, 130, 70];

interface Heard {
  readonly deviceId: string;
  readonly km: number;
  readonly samples: { readonly at: number; readonly value: number }[];
  readonly picks: Map<number, boolean>;
}

/** Draws it. */
export async function drawPicture(): Promise<BenchResult> {
  const reason = lacking('shared-data');
  if (reason !== null) return { name: 'picture', rows: [], notes: [reason] };
  const folder = sharedPath('data', 'earthquakes');
  const stations = await readStations(join(folder, 'stations.csv'));
  const truth = (await readTruth(join(folder, 'events.csv'))).get(EVENT);
  if (truth === undefined) return { name: 'picture', rows: [], notes: [`${EVENT} is not in the truth`] };
  const heard = new Map<string, Heard>();
  const replay = createReplay(stations);
  for await (const message of readMessages(join(folder, `${EVENT}.jsonl.gz`), () => undefined)) {
    const place = stations.get(message.deviceId);
    if (place === undefined) continue;
    const one = heardOf(heard, truth, message, place);
    for (const told of replay.message(message).heard)
      if (told.kind === 'pick') one.picks.set((told.at - truth.origin) / 1000, told.again);
  }
  const nearest = [...heard.values()].sort((a, b) => a.km - b.km).slice(0, STATIONS);
  const canvas = createCanvas(WIDTH, HEIGHT, WHITE);
  const alert = replay.alerts()[0];
  const moment = alert === undefined ? null : (alert.decidedAt - truth.origin) / 1000;
  const places = [...heard.keys()].flatMap((deviceId) => stations.get(deviceId) ?? []);
  draw(canvas, truth, nearest, moment, (fourthArrival(truth, places) - truth.origin) / 1000);
  const path = join(import.meta.dirname, '..', '..', '..', 'docs', `detection-${EVENT}.png`);
  writeFileSync(path, toPng(canvas));
  return { name: 'picture', rows: [], notes: [path] };
}

function heardOf(all: Map<string, Heard>, truth: TrueEvent, message: RecordedMessage, place: Place): Heard {
  const { deviceId, packet } = message;
  const known = all.get(deviceId) ?? {
    deviceId,
    km: distanceKm(truth, place),
    samples: [],
    picks: new Map<number, boolean>(),
  };
  all.set(deviceId, known);
  (packet.axes[0] ?? []).forEach((value, i) => {
    const at = (packet.at + (i * 1000) / packet.rate - truth.origin) / 1000;
    if (at >= FROM && at <= TO) known.samples.push({ at, value });
  });
  return known;
}

const columnOf = (seconds: number): number => LEFT + ((seconds - FROM) / (TO - FROM)) * (WIDTH - LEFT - 30);

function draw(canvas: Canvas, truth: TrueEvent, heard: readonly Heard[], moment: number | null, fourth: number): void {
  const bottom = HEIGHT - BOTTOM;
  write(
    canvas,
    `${EVENT}  magnitude ${truth.magnitude ?? ''}: upright axis of the ${heard.length} nearest stations`,
    20,
    18,
    INK,
    2,
  );
  legend(canvas);
  for (let second = FROM; second <= TO; second += 5) {
    line(canvas, [columnOf(second), TOP], [columnOf(second), bottom], GREY);
    write(canvas, `${second}`, columnOf(second) - 8, bottom + 10, INK, 2);
  }
  write(canvas, 'seconds after the origin', WIDTH / 2 - 140, bottom + 32, INK, 2);
  const height = (bottom - TOP) / heard.length;
  heard.forEach((one, i) => trace(canvas, one, TOP + (i + 0.5) * height, height * 0.45));
  line(canvas, [columnOf(fourth), TOP], [columnOf(fourth), bottom], INK, 6);
  if (moment !== null) fill(canvas, columnOf(moment) - 1, TOP, 3, bottom - TOP, GREEN);
}

function legend(canvas: Canvas): void {
  const entries: readonly (readonly [string, Colour])[] = [
    ['pick', RED],
    ['second arrival', ORANGE],
    ['alert', GREEN],
    ['P at the fourth station (dashed)', INK],
  ];
  let x = 20;
  for (const [text, colour] of entries) {
    fill(canvas, x, 52, 14, 14, colour);
    write(canvas, text, x + 22, 52, INK, 2);
    x += 60 + text.length * 12;
  }
}

function trace(canvas: Canvas, { deviceId, km, samples, picks }: Heard, middle: number, reach: number): void {
  write(canvas, `${deviceId}  ${km.toFixed(0)} km`, 16, middle - 7, INK, 2);
  const mean = samples.reduce((sum, { value }) => sum + value, 0) / Math.max(1, samples.length);
  const most = Math.max(1e-9, ...samples.map(({ value }) => Math.abs(value - mean)));
  let before: readonly [number, number] | null = null;
  for (const { at, value } of samples) {
    const point = [columnOf(at), middle - ((value - mean) / most) * reach] as const;
    if (before !== null) line(canvas, before, point, WAVE);
    before = point;
  }
  for (const [at, again] of picks)
    if (at >= FROM && at <= TO) fill(canvas, columnOf(at) - 1, middle - reach, 3, reach * 2, again ? ORANGE : RED);
}
