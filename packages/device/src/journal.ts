/**
 * The files of the outbox: records are appended to the newest, read back by their place, and whole files are removed.
 *
 * Guarantees: a durable append resolves once its bytes are on the disk (fdatasync; a new file's name too); appends that
 * wait together share one write and one sync; order of calls is order in the files, and what was appended before a durable
 * record is as durable, unless its own append failed. An append that failed has left
 * nothing that could come back, unless the disk refuses even to cut it off: then its file is not written to any more.
 * Files of earlier runs are never written to, so a torn end stays what it is.
 * Failure: rejects with `disk-full` or `folder-unusable`; the next append tries anew.
 */
import { type FileHandle, open, readdir, readFile, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { syncFolder } from './create-once.ts';
import { diskError, systemCode } from './device-error.ts';
import { decodeRecord, encodeRecord, readRecords, type RecordsRead } from './record.ts';

/** Where a record is. */
export interface Place {
  /** Number of the file. */
  readonly file: number;
  readonly offset: number;
  readonly length: number;
}

/** The open files. */
export interface Journal {
  /** Appends a record; `durable`: on the disk before it resolves, else only written. */
  append(payload: string, durable: boolean): Promise<Place>;
  /** The payload at a place; null when it is not whole any more, or its file is gone. */
  read(place: Place): Promise<string | null>;
  /** Everything in a file. */
  readFile(file: number): Promise<RecordsRead>;
  /** Removes a file that is not the newest. */
  remove(file: number): Promise<void>;
  /** The number of the file that is written to, or null before the first append. */
  current(): number | null;
  /** Waits for what was appended and closes. With `empty` every file goes. */
  close(empty: boolean): Promise<void>;
}

/** One file of an earlier run. */
export interface EarlierFile extends RecordsRead {
  readonly file: number;
  readonly bytes: number;
}

/** What is appended together at most, bytes. */
const BATCH_BYTES = 1_048_576;
const NAME = /^outbox-([0-9]{10})\.log$/;

interface Pending {
  readonly record: Buffer;
  readonly durable: boolean;
  readonly resolve: (place: Place) => void;
  readonly reject: (error: unknown) => void;
}

interface CurrentFile {
  readonly file: number;
  readonly handle: FileHandle;
  /** Its bytes that are good. */
  end: number;
}

function nameOf(file: number): string {
  return `outbox-${String(file).padStart(10, '0')}.log`;
}

/** Reads what earlier runs left in `folder`, one file at a time, oldest first. */
export async function* readEarlier(folder: string): AsyncGenerator<EarlierFile> {
  for (const file of await list(folder)) {
    const content = await readFile(join(folder, nameOf(file)));
    yield { file, bytes: content.length, ...readRecords(content) };
  }
}

async function list(folder: string): Promise<number[]> {
  const names = await readdir(folder);
  return names
    .flatMap((name) => NAME.exec(name)?.[1] ?? [])
    .map(Number)
    .toSorted((a, b) => a - b);
}

/** Opens the journal in `folder`; files are about `fileBytes` long. The first append makes a new one. */
export async function openJournal(folder: string, fileBytes: number): Promise<Journal> {
  const writer = createWriter(folder, fileBytes, ((await list(folder)).at(-1) ?? 0) + 1);
  const pending: Pending[] = [];
  let running: Promise<void> | null = null;
  const run = async (): Promise<void> => {
    // What is appended in the same turn goes together.
    await Promise.resolve();
    while (pending.length > 0) {
      const batch = takeBatch(pending);
      try {
        const places = await writer.write(batch);
        for (const [index, place] of places.entries()) batch[index]?.resolve(place);
      } catch (error) {
        const coded = diskError(folder, error);
        for (const { reject } of batch) reject(coded);
      }
    }
    running = null;
  };
  return {
    append: (payload, durable) =>
      new Promise((resolve, reject) => {
        pending.push({ record: encodeRecord(payload), durable, resolve, reject });
        running ??= run();
      }),
    read: (place) => readPlace(folder, place),
    readFile: async (file) => readRecords(await readFile(join(folder, nameOf(file)))),
    remove: async (file) => unlink(join(folder, nameOf(file))),
    current: () => writer.current(),
    close: async (empty) => {
      await running;
      await writer.close();
      if (!empty) return;
      for (const file of await list(folder)) await unlink(join(folder, nameOf(file)));
    },
  };
}

function takeBatch(pending: Pending[]): Pending[] {
  let bytes = 0;
  const most = pending.findIndex(({ record }) => (bytes += record.length) > BATCH_BYTES);
  return pending.splice(0, most < 0 ? pending.length : Math.max(most, 1));
}

interface Writer {
  write(batch: readonly Pending[]): Promise<Place[]>;
  current(): number | null;
  close(): Promise<void>;
}

function createWriter(folder: string, fileBytes: number, first: number): Writer {
  let next = first;
  let target: CurrentFile | null = null;
  const begin = async (): Promise<CurrentFile> => {
    const file = next;
    next += 1;
    const handle = await open(join(folder, nameOf(file)), 'wx', 0o600);
    try {
      await syncFolder(folder);
    } catch (error) {
      await discard(file, handle);
      throw error;
    }
    return { file, handle, end: 0 };
  };
  const discard = async (file: number, handle: FileHandle): Promise<void> => {
    await handle.close().catch(() => undefined);
    await unlink(join(folder, nameOf(file))).catch(() => undefined);
  };
  const leave = async (): Promise<void> => {
    const old = target;
    target = null;
    await old?.handle.close();
  };
  return {
    write: async (batch) => {
      if (target !== null && target.end >= fileBytes) {
        await target.handle.datasync();
        await leave();
      }
      target ??= await begin();
      const { file, handle, end } = target;
      const bytes = Buffer.concat(batch.map(({ record }) => record));
      try {
        await writeAll(handle, bytes, end);
        if (batch.some(({ durable }) => durable)) await handle.datasync();
      } catch (error) {
        // Cut off what may have reached the file: its callers are told that it did not. Then leave the file: after a
        // failed sync nobody knows what of it is on the disk.
        await handle.truncate(end).catch(() => undefined);
        target = null;
        if (end === 0) await discard(file, handle);
        else await handle.close().catch(() => undefined);
        throw error;
      }
      target.end = end + bytes.length;
      let offset = end;
      return batch.map(({ record }) => {
        const place = { file, offset, length: record.length };
        offset += record.length;
        return place;
      });
    },
    current: () => target?.file ?? null,
    close: async () => {
      await target?.handle.datasync();
      await leave();
    },
  };
}

async function writeAll(handle: FileHandle, bytes: Buffer, position: number): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    const { bytesWritten } = await handle.write(bytes, done, bytes.length - done, position + done);
    done += bytesWritten;
  }
}

async function readPlace(folder: string, { file, offset, length }: Place): Promise<string | null> {
  const handle = await open(join(folder, nameOf(file)), 'r').catch((error: unknown) => {
    if (systemCode(error) === 'ENOENT') return null;
    throw error;
  });
  if (handle === null) return null;
  try {
    const buffer = Buffer.alloc(length);
    const { bytesRead } = await handle.read(buffer, 0, length, offset);
    return decodeRecord(buffer.subarray(0, bytesRead), 0)?.payload ?? null;
  } finally {
    await handle.close();
  }
}
