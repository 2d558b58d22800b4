/**
 * The inside of a device and of an agent: takes readings, keeps them on the disk in the folder that it owns, and has them
 * delivered. How they are sealed (signed, or as a frame) and by which way they go is its caller's.
 *
 * Guarantees: see `device.ts`. Failure: a DeviceError; nothing stays locked or open when opening fails.
 */
import { readFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { isProfileName, type ProfileName } from '@tocsin/protocol/envelope';
import { isIdentifier } from '@tocsin/protocol/identifiers';
import { createClock, type DeviceClock, type KnownOffset } from './clock.ts';
import { type CourierCounts, startCourier } from './courier.ts';
import { createOnce } from './create-once.ts';
import { keepDeadLetter } from './dead-letters.ts';
import { DeviceError, diskError, systemCode } from './device-error.ts';
import { createEmitter, type Emitter } from './device-events.ts';
import type { DeviceState } from './device-state.ts';
import type { Signer } from './envelope.ts';
import { type FolderLock, lockFolder } from './folder-lock.ts';
import { makeFolder } from './make-folder.ts';
import { openOutbox } from './outbox.ts';
import { createPace } from './pace.ts';
import type { Sender } from './sender.ts';
import { type Part, readingsRoom, splitReadings } from './split.ts';
import { stampReadings, untimedPlaces } from './stamp.ts';
import { type TimeSource, within } from './time-source.ts';
import type { Tuning } from './tuning.ts';

/** What a reporter is opened with. */
export interface ReporterOptions<Held extends Signer> {
  readonly id: string;
  readonly profile: ProfileName;
  /** Made when missing. One process at a time, one id for ever. */
  readonly folder: string;
  /** Closed with the reporter, also when opening fails. */
  readonly sender: Sender;
  /** Makes what seals an envelope, once the folder is ours (its key may lie there). */
  readonly signer: (folder: string) => Promise<Held>;
  readonly tuning: Tuning;
  readonly time: TimeSource;
  /** In [0, 1). */
  readonly random: () => number;
}

/** What a reporter is and has done since it was opened. */
export interface ReporterStatus extends CourierCounts {
  readonly state: DeviceState;
  /** Envelopes that wait or are on their way, with their bytes on the disk. */
  readonly queued: number;
  readonly queuedBytes: number;
  /** Envelopes that had to go for newer ones. */
  readonly dropped: number;
  /** Null before the server has told its time. */
  readonly clock: KnownOffset | null;
}

/** An open reporter. */
export interface Reporter<Held extends Signer> {
  /** What was made to seal with. */
  readonly signer: Held;
  /** The corrected time, Unix ms: the server's as soon as it is known, else the machine's. */
  now(): number;
  /** Queues readings; resolves with the ids of their envelopes once they are on the disk. */
  report(readings: readonly object[], urgent: boolean): Promise<string[]>;
  /** Resolves with true once nothing waits, with false when `timeoutMs` is over before. */
  flush(timeoutMs: number): Promise<boolean>;
  status(): ReporterStatus;
  readonly on: Emitter['on'];
  /** Lets what is on its way end (2 s), keeps the rest on the disk, frees the folder. */
  close(): Promise<void>;
}

/** How long what is on its way may take when the reporter is closed. */
const GRACE_MS = 2000;

/** Throws `option-invalid`. */
export function checkReporter({
  id,
  profile,
  folder,
}: Pick<ReporterOptions<Signer>, 'id' | 'profile' | 'folder'>): void {
  const refuse = (text: string): DeviceError => new DeviceError('option-invalid', text);
  if (!isIdentifier(id)) throw refuse('id must be 1 to 64 of A-Z a-z 0-9 . _ -');
  if (!isProfileName(profile)) throw refuse('profile must be seismic, host or mobile');
  if (typeof folder !== 'string' || folder === '') throw refuse('folder must be a path');
}

/** Opens a reporter; its options are checked. */
export async function openReporter<Held extends Signer>(options: ReporterOptions<Held>): Promise<Reporter<Held>> {
  const folder = resolve(options.folder);
  try {
    await makeFolder(folder).catch((error: unknown) => {
      throw diskError(folder, error);
    });
    const lock = await lockFolder(folder);
    try {
      return await openIn(folder, options, lock);
    } catch (error) {
      await lock.release();
      throw error;
    }
  } catch (error) {
    await options.sender.close();
    throw error;
  }
}

async function openIn<Held extends Signer>(
  folder: string,
  options: ReporterOptions<Held>,
  lock: FolderLock,
): Promise<Reporter<Held>> {
  const { id, profile, sender, tuning, time, random } = options;
  await claimFor(id, folder);
  const signer = await options.signer(folder);
  const clock = createClock(time);
  const { on, emit } = createEmitter();
  let dropped = 0;
  const outbox = await openOutbox({
    folder,
    bytes: tuning.outboxBytes,
    envelopes: tuning.outboxEnvelopes,
    dropped: ({ id: envelope, count: readings, urgent }) => {
      dropped += 1;
      emit('dropped', { id: envelope, readings, urgent });
    },
  });
  const pace = createPace(tuning, random);
  const keep = createKeeper(folder);
  const courier = startCourier({ outbox, sender, signer, clock, pace, time, emit, keep });
  const room = readingsRoom(id, profile);
  const closing = createClosing(async () => {
    await courier.stop(GRACE_MS);
    await outbox.close().catch(() => undefined);
    await lock.release();
  });
  const timeTold = (): Promise<void> =>
    within(time, tuning.requestMs, Promise.race([courier.timeAsked, closing.begun]));
  const write = createWriter({ profile, room, clock, time, timeTold });
  return {
    signer,
    now: () => clock.now(),
    report: (readings, urgent) =>
      closing.during(async () => {
        const written = write(readings);
        // What needs no time is put at once, in the order of the calls.
        const parts = Array.isArray(written) ? written : await written;
        const reports = parts.map((part) => ({ profile, urgent, ...part }));
        const ids = await outbox.put(reports, clock.now());
        courier.wake();
        return ids;
      }),
    flush: (timeoutMs) => courier.drained(timeoutMs),
    status: () => ({
      state: courier.state(),
      queued: outbox.count(),
      queuedBytes: outbox.bytes(),
      dropped,
      ...courier.counts(),
      damaged: courier.counts().damaged + outbox.damaged(),
      clock: clock.offset(),
    }),
    on,
    close: closing.close,
  };
}

type Writer = (readings: readonly object[]) => Part[] | Promise<Part[]>;

interface WriterPorts {
  readonly profile: ProfileName;
  readonly room: number;
  readonly clock: DeviceClock;
  readonly time: TimeSource;
  /** Resolves once the server has told its time, or will not for now. */
  readonly timeTold: () => Promise<void>;
}

/**
 * Writes reports down, readings without a time with the moment of the call. The texts are made before anything is awaited:
 * the app may use its objects again, and what is no report is refused at once.
 */
function createWriter({ profile, room, clock, time, timeTold }: WriterPorts): Writer {
  return (readings) => {
    const untimed = untimedPlaces(readings);
    const parts = splitReadings(stampReadings(profile, readings, untimed, clock.now()), room);
    if (untimed.size === 0 || clock.offset() !== null) return parts;
    const calledAt = time.monotonic();
    return timeTold().then(() => {
      const at = Math.round(clock.now() - (time.monotonic() - calledAt));
      const written = parts.flatMap((part) => JSON.parse(part.readings) as object[]);
      return splitReadings(stampReadings(profile, written, untimed, at), room);
    });
  };
}

/** A folder is one device's for ever: its envelopes must not be signed by another. */
async function claimFor(id: string, folder: string): Promise<void> {
  const path = join(folder, 'device-id');
  try {
    // Reading first: the disk may be full.
    const owner = (await readFile(path, 'utf8').catch(absent)) ?? ((await createOnce(path, id)) ? id : null);
    if (owner === id) return;
    throw new DeviceError(
      'folder-of-another-device',
      `${folder} belongs to the device ${owner?.slice(0, 64) ?? 'that was just opened'}, not to ${id}`,
    );
  } catch (error) {
    throw diskError(path, error);
  }
}

function absent(error: unknown): null {
  if (systemCode(error) === 'ENOENT') return null;
  throw error;
}

/** One dead letter after the other. */
function createKeeper(folder: string): (letter: Parameters<typeof keepDeadLetter>[1]) => Promise<void> {
  let last: Promise<unknown> = Promise.resolve();
  return (letter) => {
    const mine = last.then(() => keepDeadLetter(folder, letter));
    last = mine.catch(() => undefined);
    return mine;
  };
}

interface Closing {
  /** Resolves when closing begins. */
  readonly begun: Promise<void>;
  /** Runs work unless closing has begun; closing waits for it. Rejects with `closed`. */
  during<Result>(work: () => Promise<Result>): Promise<Result>;
  close(): Promise<void>;
}

function createClosing(end: () => Promise<void>): Closing {
  const running = new Set<Promise<unknown>>();
  let closed: Promise<void> | null = null;
  let begin: () => void = () => undefined;
  const begun = new Promise<void>((done) => {
    begin = done;
  });
  return {
    begun,
    during: async (work) => {
      if (closed !== null) throw new DeviceError('closed', 'the device was closed');
      const run = work();
      running.add(run);
      try {
        return await run;
      } finally {
        running.delete(run);
      }
    },
    close: () => {
      begin();
      closed ??= Promise.allSettled(running).then(end);
      return closed;
    },
  };
}
