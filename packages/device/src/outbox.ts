/**
 * The outbox: envelopes that wait for the server, on the disk.
 *
 * Guarantees: what {@link Outbox.put} resolved for is on the disk and stays until it is settled, through `kill -9`, torn
 * writes and power cuts; each comes back once, with its id. What was settled is written down, too, without waiting for
 * the disk: after a power cut some may come back, which the server answers with 409 `replay`. Bounded by bytes and by
 * envelopes (see `queue.ts` for who goes); on the disk at most about twice the bound and two files more.
 * Failure: `put` rejects with `outbox-full`, `disk-full`, `folder-unusable`; what is queued stays queued.
 */
import type { ProfileName } from '@tocsin/protocol/envelope';
import { newEnvelopeId } from './ids.ts';
import { DeviceError, diskError } from './device-error.ts';
import { openJournal, type Journal, type Place, readEarlier } from './journal.ts';
import { createQueue, type Entry, type Queue, type QueueBounds } from './queue.ts';
import { type QueuedEnvelope, readOutboxRecord, SETTLED_MOST, writeOutboxRecord } from './outbox-record.ts';
import { RECORD_OVERHEAD } from './record.ts';
import { createShelf, type Shelf } from './shelf.ts';

/** An envelope that waits, as the outbox hands it out. */
export type Waiting = Entry<Place>;

/** What is to be sent. */
export interface Report {
  readonly profile: ProfileName;
  readonly urgent: boolean;
  readonly count: number;
  /** The array of readings as JSON. */
  readonly readings: string;
}

/** Envelopes on the disk. */
export interface Outbox {
  /** Resolves with the ids once all are on the disk; when it rejects, none will be sent. `now`: Unix ms. */
  put(reports: readonly Report[], now: number): Promise<string[]>;
  /** The next that may be sent; it is the caller's until settled or given back. Monotonic ms. */
  take(now: number): Waiting | null;
  /** What it holds; null when the disk has damaged it. Rejects when the disk does not answer. */
  read(entry: Waiting): Promise<Report | null>;
  /** It will not come back; resolves once that is written down, or could not be. Never rejects. */
  settle(entry: Waiting): Promise<void>;
  giveBack(entry: Waiting, notBefore: number): void;
  /** When the next may be sent, monotonic ms; null when none waits. */
  earliest(): number | null;
  /** Envelopes that are not settled, those being sent included. */
  count(): number;
  bytes(): number;
  /** Records that an earlier run's files had lost to damage. */
  damaged(): number;
  /** Puts everything onto the disk and closes. */
  close(): Promise<void>;
}

/** What the outbox needs. */
export interface OutboxOptions extends QueueBounds {
  readonly folder: string;
  /** Told of each envelope that had to go for newer ones. */
  readonly dropped: (entry: Waiting) => void;
}

/** A file is this part of the bound, within limits: small enough that removing whole files keeps up. */
const FILES = 16;
const FILE_LEAST_BYTES = 65_536;
const FILE_MOST_BYTES = 4_194_304;

/** Opens the outbox in `folder`, which must be there and ours. */
export async function openOutbox(options: OutboxOptions): Promise<Outbox> {
  const { folder, bytes, envelopes } = options;
  const fileBytes = Math.min(Math.max(Math.floor(bytes / FILES), FILE_LEAST_BYTES), FILE_MOST_BYTES);
  try {
    const earlier = await recall(folder, { bytes, envelopes });
    const journal = await openJournal(folder, fileBytes);
    return createOutbox(options, journal, earlier, fileBytes);
  } catch (error) {
    throw diskError(folder, error);
  }
}

interface Recalled {
  readonly queue: Queue<Place>;
  readonly shelf: Shelf;
  readonly sequence: number;
  readonly damaged: number;
}

/** What earlier runs left: every envelope that is not settled, once, in the order of reports. */
async function recall(folder: string, bounds: QueueBounds): Promise<Recalled> {
  const found = new Map<string, Waiting>();
  const settled = new Set<string>();
  const shelf = createShelf();
  let sequence = 0;
  let damaged = 0;
  for await (const file of readEarlier(folder)) {
    shelf.grow(file.file, file.bytes);
    damaged += file.damaged;
    for (const { offset, length, payload } of file.records) {
      const record = readOutboxRecord(payload);
      if (record === null) damaged += 1;
      else if (record.kind === 'settled') for (const id of record.ids) settled.add(id);
      else {
        const entry = newEntry(record.envelope, length);
        sequence = Math.max(sequence, entry.sequence + 1);
        entry.where = { file: file.file, offset, length };
        entry.state = 'waiting';
        found.set(entry.id, entry);
      }
    }
  }
  const queue = createQueue<Place>(bounds);
  for (const entry of [...found.values()].toSorted((a, b) => a.sequence - b.sequence)) {
    if (settled.has(entry.id)) continue;
    queue.add(entry);
    shelf.put(entry.where);
  }
  return { queue, shelf, sequence, damaged };
}

/** Taken until it is on the disk: it counts, but can neither be sent nor dropped. */
function newEntry({ id, sequence, urgent, count }: QueuedEnvelope, bytes: number): Waiting {
  const where = { file: 0, offset: 0, length: 0 };
  return { id, sequence, urgent, count, bytes, where, state: 'taken', attempts: 0, notBefore: 0 };
}

function createOutbox(options: OutboxOptions, journal: Journal, earlier: Recalled, fileBytes: number): Outbox {
  const { queue, shelf } = earlier;
  let { sequence } = earlier;
  const upkeep = createUpkeep(journal, queue, shelf, fileBytes);
  const forget = (entry: Waiting): Promise<void> => {
    queue.remove(entry);
    shelf.take(entry.where);
    return upkeep.settled(entry.id);
  };
  const trim = (): void => {
    for (const victim of queue.trim()) {
      shelf.take(victim.where);
      void upkeep.settled(victim.id);
      options.dropped(victim);
    }
  };
  /** All onto the disk, or none is kept. */
  const commit = async (records: readonly { readonly text: string; readonly entry: Waiting }[]): Promise<void> => {
    const written = records.map(async ({ text, entry }) => {
      entry.where = await journal.append(text, true);
      shelf.grow(entry.where.file, entry.bytes);
      shelf.put(entry.where);
      return entry;
    });
    const outcomes = await Promise.allSettled(written);
    const failed = outcomes.find((outcome) => outcome.status === 'rejected');
    if (failed === undefined) return;
    for (const outcome of outcomes) if (outcome.status === 'fulfilled') void forget(outcome.value);
    for (const { entry } of records) queue.remove(entry);
    throw diskError(options.folder, failed.reason);
  };
  // Bounds may be smaller than those of the run before.
  trim();
  return {
    put: async (reports, now) => {
      const records = reports.map((report) => {
        const envelope = { ...report, sequence, id: newEnvelopeId(now) };
        sequence += 1;
        const text = writeOutboxRecord({ kind: 'queued', envelope });
        return { text, entry: newEntry(envelope, RECORD_OVERHEAD + Buffer.byteLength(text)) };
      });
      const bytes = records.reduce((sum, { entry }) => sum + entry.bytes, 0);
      const urgent = reports.every((report) => report.urgent);
      if (!queue.fits({ count: records.length, bytes }, urgent)) {
        const held = `${queue.count()} envelopes of ${queue.bytes()} bytes`;
        throw new DeviceError('outbox-full', `the outbox holds ${held}, which may not all be dropped for this`);
      }
      for (const { entry } of records) queue.add(entry);
      await commit(records);
      for (const { entry } of records) queue.putBack(entry, 0);
      trim();
      return records.map(({ entry }) => entry.id);
    },
    take: (now) => queue.take(now),
    read: async (entry) => {
      const payload = await readMoving(journal, entry);
      const record = payload === null ? null : readOutboxRecord(payload);
      if (record === null || record.kind !== 'queued' || record.envelope.id !== entry.id) return null;
      const { profile, urgent, count, readings } = record.envelope;
      return { profile, urgent, count, readings };
    },
    settle: forget,
    giveBack: (entry, notBefore) => queue.putBack(entry, notBefore),
    earliest: () => queue.earliest(),
    count: () => queue.count(),
    bytes: () => queue.bytes(),
    damaged: () => earlier.damaged,
    close: async () => {
      await upkeep.finish();
      await journal.close(queue.count() === 0);
    },
  };
}

/** Upkeep may move a record while it is read: then it is read again at its new place. */
async function readMoving(journal: Journal, entry: Waiting): Promise<string | null> {
  for (;;) {
    const { where } = entry;
    const payload = await journal.read(where);
    if (payload !== null || where === entry.where) return payload;
  }
}

interface Upkeep {
  /** Writes down that an envelope is settled, together with others; resolves when that was tried. */
  settled(id: string): Promise<void>;
  /** Everything that can be written is. */
  finish(): Promise<void>;
}

/** Work behind the scenes: settled ids to the disk, files without anything that waits away. One round at a time. */
function createUpkeep(journal: Journal, queue: Queue<Place>, shelf: Shelf, fileBytes: number): Upkeep {
  let ids: string[] = [];
  let running: Promise<void> | null = null;
  let again = false;
  const writeSettled = async (): Promise<void> => {
    while (ids.length > 0) {
      const some = ids.slice(0, SETTLED_MOST);
      const { file, length } = await journal.append(writeOutboxRecord({ kind: 'settled', ids: some }), false);
      shelf.grow(file, length);
      ids = ids.slice(some.length);
    }
  };
  const removeOldest = async (): Promise<boolean> => {
    const oldest = shelf.oldest();
    if (oldest === null || oldest.file === journal.current()) return false;
    if (oldest.waiting > 0) {
      if (shelf.waste() <= Math.max(queue.bytes(), 2 * fileBytes)) return false;
      if (!(await moveAll(oldest.file))) return false;
    }
    await journal.remove(oldest.file);
    shelf.remove(oldest.file);
    return true;
  };
  /** Copies what still waits in a file to the newest one; false when some of it cannot be moved now. */
  const moveAll = async (file: number): Promise<boolean> => {
    const entries = [...queue.entries()].filter(({ where }) => where.file === file);
    const { records } = await journal.readFile(file);
    const payloads = new Map(records.map(({ offset, payload }) => [offset, payload]));
    // Damaged since: reading it to send it will say so; the file has to stay until then.
    if (entries.some(({ where }) => !payloads.has(where.offset))) return false;
    const copies = await Promise.all(
      entries.map(({ where }, index) => journal.append(payloads.get(where.offset) ?? '', index === entries.length - 1)),
    );
    for (const [index, entry] of entries.entries()) {
      const to = copies[index];
      if (to === undefined) continue;
      shelf.grow(to.file, to.length);
      // Settled while it was copied: its settling counts for every copy.
      if (entry.state === 'gone') continue;
      shelf.take(entry.where);
      entry.where = to;
      shelf.put(to);
    }
    return true;
  };
  const work = async (): Promise<void> => {
    // Removing comes first: on a full disk it makes the room that writing needs.
    while (await removeOldest());
    while (ids.length > 0) {
      await writeSettled();
      while (await removeOldest());
    }
  };
  const round = async (): Promise<void> => {
    do {
      again = false;
      // What is settled in the same turn goes together.
      await Promise.resolve();
      // A full or broken disk: `put` says so. The ids are kept for the next round.
      await work().catch(() => undefined);
    } while (again);
    running = null;
  };
  return {
    settled: (id) => {
      ids.push(id);
      again = true;
      running ??= round();
      return running;
    },
    finish: async () => {
      await running;
      await round();
    },
  };
}
