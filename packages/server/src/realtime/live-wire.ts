/**
 * What instances tell each other of live devices: one payload with many frames, under the topic `live`.
 *
 * Form: `live-1 <instance> <number> ` and a JSON list of `[heardAt, device_id, timestamp, cpu, mem, disk, gpu, agent cpu, agent
 * mem]`. The number rises by one with each payload of an instance, so that who missed one knows. Pure.
 * Guarantee: a payload is read whole or not at all; another version, or anything that is not exactly this, is `malformed`.
 */
import { isIdentifier } from '@tocsin/protocol/identifiers';
import type { LiveDevice } from './live-board.ts';

/** The topic. */
export const LIVE_TOPIC = 'live';
/** Frames of one payload at most: some 250 bytes each, under the bound of the bus's seal. */
export const FRAMES_MOST = 2000;

const VERSION = 'live-1';
const HEAD = /^live-1 ([0-9A-Za-z-]{1,64}) ([1-9][0-9]{0,14}) /;
const COLUMNS = 9;

/** A payload that was read. */
export interface LivePayload {
  readonly instance: string;
  readonly number: number;
  readonly devices: readonly LiveDevice[];
}

/** Writes a payload of at most {@link FRAMES_MOST} devices; none at all says only that nothing was missed. */
export function encodeLive(instance: string, number: number, devices: readonly LiveDevice[]): string {
  const rows = devices.map(({ heardAt, frame }) => [
    heardAt,
    frame.device_id,
    frame.timestamp,
    frame.cpu_percent,
    frame.mem_percent,
    frame.disk_percent,
    frame.gpu_percent,
    frame.agent_cpu_percent,
    frame.agent_mem_mb,
  ]);
  return `${VERSION} ${instance} ${number} ${JSON.stringify(rows)}`;
}

/** True when the payload says that it is of this instance; costs no reading. */
export function isOwn(instance: string, payload: string): boolean {
  return payload.startsWith(`${VERSION} ${instance} `);
}

const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;
const isWithin = (value: unknown, most: number): value is number =>
  typeof value === 'number' && value >= 0 && value <= most;
const isOrNull = (value: unknown, most: number): value is number | null => value === null || isWithin(value, most);

/** A device as {@link encodeLive} writes it; absent optionals may be null or undefined. */
export type LiveRow = readonly unknown[];

/** Reads a row of another process, or of the store; null when its numbers are no frame. Pure. */
export function readRow(row: LiveRow): LiveDevice | null {
  const [heardAt, device_id, timestamp] = [row[0], row[1], row[2]];
  const [cpu_percent, mem_percent, disk_percent] = [row[3], row[4], row[5]];
  const [gpu_percent, agent_cpu_percent, agent_mem_mb] = [row[6] ?? null, row[7] ?? null, row[8] ?? null];
  if (!isCount(heardAt) || !isIdentifier(device_id) || !isCount(timestamp)) return null;
  if (!isWithin(cpu_percent, 100) || !isWithin(mem_percent, 100) || !isWithin(disk_percent, 100)) return null;
  if (!isOrNull(gpu_percent, 100) || !isOrNull(agent_cpu_percent, 1000)) return null;
  if (!isOrNull(agent_mem_mb, Number.MAX_VALUE)) return null;
  // Members one by one: spreading them costs more than all of the checks.
  return {
    heardAt,
    frame: {
      device_id,
      timestamp,
      cpu_percent,
      mem_percent,
      disk_percent,
      gpu_percent,
      agent_cpu_percent,
      agent_mem_mb,
    },
  };
}

/** Reads a payload, or says that it is none. */
export function decodeLive(payload: string): LivePayload | 'malformed' {
  const head = HEAD.exec(payload);
  const [whole, instance, number] = head ?? [];
  if (whole === undefined || instance === undefined) return 'malformed';
  let rows: unknown;
  try {
    rows = JSON.parse(payload.slice(whole.length));
  } catch {
    return 'malformed';
  }
  if (!Array.isArray(rows) || rows.length > FRAMES_MOST) return 'malformed';
  const devices: LiveDevice[] = [];
  for (const row of rows as readonly unknown[]) {
    if (!Array.isArray(row) || row.length !== COLUMNS) return 'malformed';
    const device = readRow(row as LiveRow);
    if (device === null) return 'malformed';
    devices.push(device);
  }
  return { instance, number: Number(number), devices };
}
