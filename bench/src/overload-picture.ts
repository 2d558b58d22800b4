/** The picture of an overload: four strips over time, memory, accepted, refused, and how late answers and alerts were. */
import { type Canvas, type Colour, createCanvas, fill, line, toPng, write } from './png.ts';
import type { FloodReport } from './flood.ts';

/** One earthquake: when it shook, and how long until the viewer had it; null: never. */
export interface ShakenAlert {
  readonly second: number;
  readonly ms: number | null;
}

const [WIDTH, HEIGHT, LEFT, RIGHT, TOP, STRIP, GAP] = [1200, 860, 150, 30, 70, 150, 40] as const;
const WHITE: Colour = [255, 255, 255];
const INK: Colour = [40, 40, 48];
const GREY: Colour = [222, 224, 229];
const BLUE: Colour = [60, 90, 140];
const GREEN: Colour = [20, 130, 70];
const ORANGE: Colour = [230, 140, 30];
const RED: Colour = [205, 40, 40];

interface Strip {
  readonly title: string;
  readonly unit: string;
  readonly most: number;
  readonly lines: readonly { readonly values: readonly number[]; readonly colour: Colour }[];
  readonly dots?: readonly { readonly second: number; readonly value: number }[];
  /** A level to compare with. */
  readonly level?: number;
}

/** Draws it; PNG. */
export function drawOverload(
  { seconds }: FloodReport,
  megabytes: readonly number[],
  alerts: readonly ShakenAlert[],
  capacity: number,
): Buffer {
  const canvas = createCanvas(WIDTH, HEIGHT, WHITE);
  write(canvas, `TEN TIMES CAPACITY FOR TWO MINUTES: ${capacity * 10} ENVELOPES/S OFFERED`, LEFT, 24, INK, 2);
  const accepted = seconds.map((second) => second.accepted);
  const refused = seconds.map((second) => second.refused);
  const p99 = seconds.map((second) => second.p99);
  const dots = alerts.flatMap(({ second, ms }) => (ms === null ? [] : [{ second, value: ms }]));
  const strips: readonly Strip[] = [
    { title: 'MEMORY', unit: 'MB', most: roundUp(megabytes), lines: [{ values: megabytes, colour: BLUE }] },
    {
      title: 'ACCEPTED',
      unit: '/S',
      most: roundUp([...accepted, capacity]),
      lines: [{ values: accepted, colour: GREEN }],
      level: capacity,
    },
    { title: 'REFUSED', unit: '/S', most: roundUp([...refused, 10]), lines: [{ values: refused, colour: ORANGE }] },
    {
      title: 'P99 OF 202, ALERTS',
      unit: 'MS',
      most: roundUp([...p99, ...dots.map(({ value }) => value)]),
      lines: [{ values: p99, colour: BLUE }],
      dots,
    },
  ];
  const length = Math.max(seconds.length, megabytes.length, 1);
  for (const [i, strip] of strips.entries()) drawStrip(canvas, strip, TOP + i * (STRIP + GAP), length);
  for (let second = 0; second <= length; second += 20)
    write(canvas, `${second} S`, xOf(second, length) - 10, TOP + 4 * (STRIP + GAP) - GAP + 12, INK);
  return toPng(canvas);
}

function xOf(second: number, length: number): number {
  return LEFT + (second / length) * (WIDTH - LEFT - RIGHT);
}

function drawStrip(canvas: Canvas, strip: Strip, top: number, length: number): void {
  const { title, unit, most, lines, dots = [], level } = strip;
  const yOf = (value: number): number => top + STRIP - (value / most) * STRIP;
  for (const share of [0, 0.5, 1]) {
    line(canvas, [LEFT, yOf(most * share)], [WIDTH - RIGHT, yOf(most * share)], GREY);
    write(canvas, String(Math.round(most * share)), LEFT - 60, yOf(most * share) - 4, INK);
  }
  write(canvas, title, 10, top + STRIP / 2 - 12, INK);
  write(canvas, unit, 10, top + STRIP / 2 + 2, INK);
  if (level !== undefined) line(canvas, [LEFT, yOf(level)], [WIDTH - RIGHT, yOf(level)], INK, 4);
  for (const { values, colour } of lines) {
    for (const [i, value] of values.entries()) {
      const before = values[i - 1] ?? value;
      line(canvas, [xOf(Math.max(0, i - 1), length), yOf(before)], [xOf(i, length), yOf(value)], colour);
    }
  }
  for (const { second, value } of dots) fill(canvas, xOf(second, length) - 3, yOf(value) - 3, 6, 6, RED);
}

/** The next of 1, 2, 5 times a power of ten. */
function roundUp(values: readonly number[]): number {
  const most = Math.max(1, ...values);
  const power = 10 ** Math.floor(Math.log10(most));
  return ([1, 2, 5, 10].find((step) => step * power >= most) ?? 10) * power;
}
