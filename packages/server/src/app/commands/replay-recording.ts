/**
 * Recorded waveforms as messages: stations and truth from CSV, messages from JSON lines, plain or gzipped, in the order
 * of `cloud_t`. Read as a stream; bad input ends with file and line.
 */
import { createReadStream } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { basename } from 'node:path';
import type { Readable } from 'node:stream';
import { createGunzip } from 'node:zlib';
import type { Packet } from '../../detectors/station-state.ts';
import type { Place } from '../../detectors/travel.ts';
import { UsageError } from './exit-codes.ts';

/** What a station sent, with the time of its arrival, Unix ms. */
export interface RecordedMessage {
  readonly deviceId: string;
  readonly packet: Packet;
  readonly now: number;
}

/** An earthquake that is known to have happened. `fourthKm`: distance of the fourth station, if the table says it. */
export interface TrueEvent extends Place {
  readonly event: string;
  /** Unix ms. */
  readonly origin: number;
  readonly magnitude: number | null;
  readonly fourthKm: number | null;
}

/** Longest line, characters: 1000 samples on three axes with room to spare. */
const MOST_CHARACTERS = 262_144;
/** Largest table, bytes. */
const MOST_TABLE = 16_777_216;
/** Messages held back for one that comes later in the file but arrived earlier, in samples: an hour of thirty stations, in any order. */
const MOST_EARLY = 16_777_216;
/** What a message without samples counts for in that. */
const MESSAGE_COST = 64;
/** Farthest time that a date can have, ms. */
const FARTHEST = 8.64e15;
const AXES = ['x', 'y', 'z'] as const;

/** The part of a file's name that names its event. */
export function stemOf(path: string): string {
  return basename(path)
    .replace(/\.gz$/, '')
    .replace(/\.jsonl$/, '');
}

/** Stations by device. */
export async function readStations(path: string): Promise<ReadonlyMap<string, Place>> {
  const rows = await readTable(path, ['device_id', 'latitude', 'longitude']);
  return new Map(
    rows.map(({ line, cells }) => {
      const place = {
        latitude: degrees(path, line, cells, 'latitude', 90),
        longitude: degrees(path, line, cells, 'longitude', 180),
      };
      return [cells['device_id'] ?? '', place];
    }),
  );
}

/** The truth by event. */
export async function readTruth(path: string): Promise<ReadonlyMap<string, TrueEvent>> {
  const rows = await readTable(path, ['event', 'origin_epoch_s', 'latitude', 'longitude']);
  return new Map(
    rows.map(({ line, cells }) => {
      const event = cells['event'] ?? '';
      const truth: TrueEvent = {
        event,
        origin: number(path, line, cells, 'origin_epoch_s') * 1000,
        latitude: degrees(path, line, cells, 'latitude', 90),
        longitude: degrees(path, line, cells, 'longitude', 180),
        magnitude: (cells['magnitude'] ?? '') === '' ? null : number(path, line, cells, 'magnitude'),
        fourthKm: (cells['fourth_station_km'] ?? '') === '' ? null : number(path, line, cells, 'fourth_station_km'),
      };
      return [event, truth];
    }),
  );
}

interface Row {
  readonly line: number;
  readonly cells: Readonly<Record<string, string>>;
}

async function readTable(path: string, columns: readonly string[]): Promise<Row[]> {
  const text = await readFile(path, 'utf8').catch((error: unknown) =>
    fail(`${path} cannot be read: ${reasonOf(error)}`),
  );
  if (text.length > MOST_TABLE) fail(`${path} is larger than ${MOST_TABLE} bytes`);
  const lines = text.replace(/^\uFEFF/, '').split(/\r?\n/);
  const head = cellsOf(lines[0] ?? '');
  const missing = columns.filter((column) => !head.includes(column));
  if (missing.length > 0) fail(`${path}:1: the column ${missing.join(', ')} is missing`);
  return lines.flatMap((line, index) => {
    if (index === 0 || line.trim() === '') return [];
    const cells = cellsOf(line);
    return [{ line: index + 1, cells: Object.fromEntries(head.map((name, i) => [name, cells[i] ?? ''])) }];
  });
}

/** The fields of a line, quoted ones too (RFC 4180; none spans lines in tables of numbers). */
function cellsOf(line: string): string[] {
  return [...`,${line}`.matchAll(/,\s*(?:"((?:[^"]|"")*)"\s*(?=,|$)|([^,]*))/g)].map(([, quoted, plain]) =>
    quoted === undefined ? (plain ?? '').trim() : quoted.replaceAll('""', '"'),
  );
}

function number(path: string, line: number, cells: Row['cells'], column: string): number {
  const text = cells[column] ?? '';
  const value = Number(text);
  if (text === '' || !Number.isFinite(value)) fail(`${path}:${line}: ${column} must be a number`);
  return value;
}

function degrees(path: string, line: number, cells: Row['cells'], column: string, most: number): number {
  const value = number(path, line, cells, column);
  if (Math.abs(value) > most) fail(`${path}:${line}: ${column} must lie within ${most} degrees`);
  return value;
}

/** The messages of a file in the order of their arrival. `progress` hears of bytes read, compressed where the file is; `note` of what was left out. */
export async function* readMessages(
  path: string,
  progress: (bytes: number) => void,
  note: (text: string) => void = () => undefined,
): AsyncGenerator<RecordedMessage> {
  let early: RecordedMessage[] = [];
  let cost = 0;
  let released = -Infinity;
  let line = 0;
  for await (const { text, ended } of readLines(path, progress)) {
    line += 1;
    if (text === '') continue;
    if (!ended && !isJson(text)) {
      note(`${path}:${line}: the last line breaks off, not used`);
      break;
    }
    const message = parseMessage(path, line, text);
    if (message.now < released) fail(`${path}:${line}: cloud_t lies too far back for a file of this size: sort it`);
    early.push(message);
    cost += costOf(message);
    if (cost <= MOST_EARLY) continue;
    // The older half goes; sorting is stable, equal times stay in the order of the file.
    early.sort((a, b) => a.now - b.now);
    const half = early.length >>> 1;
    for (const next of early.slice(0, half)) yield next;
    released = early[half - 1]?.now ?? released;
    early = early.slice(half);
    cost = early.reduce((sum, one) => sum + costOf(one), 0);
  }
  yield* early.sort((a, b) => a.now - b.now);
}

function costOf({ packet: { axes } }: RecordedMessage): number {
  return MESSAGE_COST + axes.reduce((sum, { length }) => sum + length, 0);
}

/** A line; only the last of a file may not have ended. */
interface Line {
  readonly text: string;
  readonly ended: boolean;
}

function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

async function* readLines(path: string, progress: (bytes: number) => void): AsyncGenerator<Line> {
  const file = createReadStream(path);
  file.on('data', (chunk) => progress(chunk.length));
  const source: Readable = path.endsWith('.gz') ? file.pipe(createGunzip()) : file;
  // pipe() passes no errors on.
  if (source !== file) file.on('error', (error) => source.destroy(error));
  let rest = '';
  try {
    for await (const chunk of source.setEncoding('utf8')) {
      const lines = (rest + String(chunk)).split('\n');
      rest = lines.pop() ?? '';
      if (rest.length > MOST_CHARACTERS) fail(`${path}: a line is longer than ${MOST_CHARACTERS} characters`);
      for (const line of lines) yield { text: line.trim(), ended: true };
    }
  } catch (error) {
    if (error instanceof UsageError) throw error;
    fail(`${path} cannot be read: ${reasonOf(error)}`);
  } finally {
    file.destroy();
  }
  if (rest.trim() !== '') yield { text: rest.trim(), ended: false };
}

function parseMessage(path: string, line: number, text: string): RecordedMessage {
  const where = `${path}:${line}`;
  let raw: unknown;
  try {
    raw = JSON.parse(text);
  } catch {
    fail(`${where}: not JSON`);
  }
  if (typeof raw !== 'object' || raw === null || Array.isArray(raw)) fail(`${where}: not an object`);
  const message = raw as Readonly<Record<string, unknown>>;
  const deviceId = message['device_id'];
  if (typeof deviceId !== 'string' || deviceId === '') fail(`${where}: device_id must be a text`);
  const seconds = (name: string): number => {
    const value = message[name];
    if (typeof value !== 'number' || !Number.isFinite(value)) fail(`${where}: ${name} must be a number`);
    return value;
  };
  const rate = seconds('sr');
  if (rate <= 0) fail(`${where}: sr must be above 0`);
  // A sensor with fewer axes leaves the others out, or says null.
  const axes = AXES.filter((name) => message[name] !== undefined && message[name] !== null).map((name) =>
    samples(where, name, message[name]),
  );
  const count = axes[0]?.length ?? 0;
  if (count === 0 || axes.some((axis) => axis.length !== count))
    fail(`${where}: x, y and z must be equally long, not empty`);
  // `device_t` is the time of the last sample; tenths of a millisecond are beyond any clock here.
  const at = seconds('device_t') * 1000 - ((count - 1) * 1000) / rate;
  const now = Math.round(seconds('cloud_t') * 1000);
  if (!(Math.abs(at) <= FARTHEST && Math.abs(now) <= FARTHEST))
    fail(`${where}: device_t and cloud_t must be Unix seconds`);
  return { deviceId, packet: { at, rate, axes }, now };
}

function samples(where: string, name: string, value: unknown): readonly number[] {
  if (!Array.isArray(value) || !value.every((one) => typeof one === 'number' && Number.isFinite(one)))
    fail(`${where}: ${name} must be a list of numbers`);
  return value as readonly number[];
}

function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

function fail(message: string): never {
  throw new UsageError(message);
}
