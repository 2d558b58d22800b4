/**
 * How the log's records and ids are written in Redis. Pure.
 *
 * An entry's `meta` is `<kind> <arrival> <key> <traceparent> <device number> <zone number> <zone id>
 * <latitude> <longitude>` with `~` for what
 * is not there, so that it reads well in `redis-cli`; `body` is the record's text.
 */
import { formatContext, parseContext } from '../../store/ports/log-context.ts';
import type { EnvelopeAppend, KeyedAppend, LogKind, LogRecord } from '../../store/ports/log.ts';
import { logKeys } from './keys.ts';

const DAY_MS = 86_400_000;
/** Days before that of an arrival in which its id is looked for. */
const LOOK_BACK_DAYS = 7;
/** Days whose ids are dropped when their time has come; what is older has expired. */
const FORGET_DAYS = 3;
const HALF_HOUR_MS = 1_800_000;
/** Half hours before that of an arrival in which the id of a frame is looked for: an hour at least. */
const LOOK_BACK_HALF_HOURS = 2;
/** No id holds it. */
const NONE = '~';

/** The keys of a partition, days and half hours by number. */
export interface NumberedKeys {
  readonly head: string;
  readonly records: string;
  readonly ids: (day: number) => string;
  readonly frames: (halfHour: number) => string;
}

/** The keys of a partition. */
export function keysOf(partition: number): NumberedKeys {
  const keys = logKeys(partition);
  return {
    ...keys,
    ids: (day) => keys.ids(dayName(day)),
    frames: (halfHour) => keys.frames(new Date(halfHour * HALF_HOUR_MS).toISOString().slice(0, 16)),
  };
}

/** Number of the half hour of an arrival. */
export function halfHourOf(receivedAt: number): number {
  return Math.floor(receivedAt / HALF_HOUR_MS);
}

/** Half hours in which the frame of an arrival may stand, that one first; the next one by a clock that is ahead. */
export function halfHoursToLook(halfHour: number): number[] {
  return [halfHour, halfHour + 1, ...Array.from({ length: LOOK_BACK_HALF_HOURS }, (_, i) => halfHour - 1 - i)];
}

/** Number of the UTC day of an arrival. */
export function dayOf(receivedAt: number): number {
  return Math.floor(receivedAt / DAY_MS);
}

/** The last ms of a day. */
export function endOfDay(day: number): number {
  return (day + 1) * DAY_MS - 1;
}

/** Days in which the id of an arrival on `day` may stand, that day first; the next one by a clock that is ahead. */
export function daysToLook(day: number): number[] {
  return [day, day + 1, ...Array.from({ length: LOOK_BACK_DAYS }, (_, i) => day - 1 - i)];
}

/** Days that ended before `before` (Unix ms), the newest ones. */
export function daysToForget(before: number): number[] {
  const newest = dayOf(before) - 1;
  return Array.from({ length: FORGET_DAYS }, (_, i) => newest - i);
}

/** The id's field. Neither part holds a space. */
export function idOf({ deviceId, envelopeId }: Pick<EnvelopeAppend, 'deviceId' | 'envelopeId'>): string {
  return `${deviceId} ${envelopeId}`;
}

/** The id of a field. */
export function parseId(id: string): Pick<EnvelopeAppend, 'deviceId' | 'envelopeId'> {
  const space = id.indexOf(' ');
  return { deviceId: id.slice(0, space), envelopeId: id.slice(space + 1) };
}

/** The digest of a value. */
export function parseDigest(text: string): Buffer {
  return Buffer.from(text, 'base64url');
}

/** The digest's value. */
export function digestText(digest: Buffer): string {
  return digest.toString('base64url');
}

/** `meta` of an envelope. */
export function envelopeMeta({ kind, receivedAt, deviceId, traceparent, context }: EnvelopeAppend): string {
  return `${kind} ${receivedAt} ${deviceId} ${traceparent ?? NONE} ${formatContext(context)}`;
}

/** `meta` of a tick. */
export function tickMeta({ kind, receivedAt, key, traceparent }: KeyedAppend): string {
  return `${kind} ${receivedAt} ${key === '' ? NONE : key} ${traceparent ?? NONE}`;
}

/** A record as the script `READ` answers it: `<offset>-0 <meta>\n<body>`. */
export function parseRecord(partition: number, text: string): LogRecord {
  const end = text.indexOf('\n');
  const [id = '', kind, receivedAt, key = NONE, traceparent = NONE, ...context] = text.slice(0, end).split(' ');
  return {
    partition,
    offset: offsetOf(id),
    kind: kind as LogKind,
    receivedAt: Number(receivedAt),
    key: key === NONE ? '' : key,
    traceparent: traceparent === NONE ? null : traceparent,
    context: parseContext(context),
    body: text.slice(end + 1),
  };
}

/** The offset of an entry's id `<offset>-0`. */
export function offsetOf(id: string): number {
  return Number(id.slice(0, id.indexOf('-')));
}

function dayName(day: number): string {
  return new Date(day * DAY_MS).toISOString().slice(0, 10);
}
