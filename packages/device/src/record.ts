/**
 * Records of the outbox's files: `FF 'T' 'O' '1'`, length (4 bytes, big endian), checksum (8 bytes: SHA-256 of length and
 * payload, cut), payload (UTF-8). Pure.
 *
 * Guarantees: a record is read back as it was written or not at all, wherever a file was torn and whichever bytes were
 * flipped; what follows a damaged record is found again by its marker, which no UTF-8 text contains.
 */
import { createHash } from 'node:crypto';

const MARKER: Buffer = Buffer.from([0xff, 0x54, 0x4f, 0x31]);
const LENGTH_AT = 4;
const SUM_AT = 8;
const SUM_BYTES = 8;
/** Bytes of a record beside its payload. */
export const RECORD_OVERHEAD: number = SUM_AT + SUM_BYTES;
/** The largest payload: an envelope's readings and what is known about them. */
export const PAYLOAD_MOST_BYTES = 524_288;

/** A record within a file. */
export interface FoundRecord {
  readonly offset: number;
  /** With marker, length and checksum. */
  readonly length: number;
  readonly payload: string;
}

/** What {@link readRecords} made of a file. */
export interface RecordsRead {
  readonly records: readonly FoundRecord[];
  /** Places where something stood that is no whole record, other than the torn end. */
  readonly damaged: number;
}

/** The record that holds `payload`. Throws a RangeError beyond {@link PAYLOAD_MOST_BYTES}. */
export function encodeRecord(payload: string): Buffer {
  const text = Buffer.from(payload, 'utf8');
  if (text.length > PAYLOAD_MOST_BYTES) throw new RangeError(`a record holds at most ${PAYLOAD_MOST_BYTES} bytes`);
  const head = Buffer.alloc(RECORD_OVERHEAD);
  MARKER.copy(head);
  head.writeUInt32BE(text.length, LENGTH_AT);
  checksum(head, text).copy(head, SUM_AT);
  return Buffer.concat([head, text]);
}

/** The payload of the record at `offset`, or null when no whole record begins there. */
export function decodeRecord(file: Buffer, offset: number): FoundRecord | null {
  const end = offset + RECORD_OVERHEAD;
  if (end > file.length || file.compare(MARKER, 0, LENGTH_AT, offset, offset + LENGTH_AT) !== 0) return null;
  const size = file.readUInt32BE(offset + LENGTH_AT);
  if (size > PAYLOAD_MOST_BYTES || end + size > file.length) return null;
  const text = file.subarray(end, end + size);
  const sum = file.subarray(offset + SUM_AT, end);
  if (!checksum(file.subarray(offset, end), text).equals(sum)) return null;
  return { offset, length: RECORD_OVERHEAD + size, payload: text.toString('utf8') };
}

/** Every whole record of a file, in order. */
export function readRecords(file: Buffer): RecordsRead {
  const records: FoundRecord[] = [];
  let damaged = 0;
  let at = 0;
  while (at < file.length) {
    const found = decodeRecord(file, at);
    if (found !== null) {
      records.push(found);
      at += found.length;
      continue;
    }
    const next = nextWhole(file, at + 1);
    if (next === null) break;
    damaged += 1;
    at = next;
  }
  return { records, damaged };
}

function nextWhole(file: Buffer, from: number): number | null {
  for (let at = file.indexOf(MARKER, from); at >= 0; at = file.indexOf(MARKER, at + 1)) {
    if (decodeRecord(file, at) !== null) return at;
  }
  return null;
}

function checksum(head: Buffer, text: Buffer): Buffer {
  const length = head.subarray(LENGTH_AT, SUM_AT);
  return createHash('sha256').update(length).update(text).digest().subarray(0, SUM_BYTES);
}
