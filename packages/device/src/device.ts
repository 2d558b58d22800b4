/**
 * A device: signs its readings, keeps them on the disk until the server has them, and tries again by itself.
 *
 * Guarantees: a report that resolved is delivered once (it ends as one envelope at the server, however often processes,
 * networks and servers die), unless it has to go because the outbox is full, or the server will never take it; both are
 * counted and told. Times are the server's as soon as it is known. Nothing but envelopes and challenges is signed.
 * Failure: a DeviceError by its code. Page: `docs/device-sdk.md`.
 */
import type { KeyObject } from 'node:crypto';
import { mkdir, readFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { isProfileName, type ProfileName } from '@tocsin/protocol/envelope';
import { isIdentifier } from '@tocsin/protocol/identifiers';
import { signChallenge } from './challenge.ts';
import { createClock, type DeviceClock, type KnownOffset } from './clock.ts';
import { type CourierCounts, startCourier } from './courier.ts';
import { createOnce } from './create-once.ts';
import { keepDeadLetter } from './dead-letters.ts';
import { DeviceError, diskError, systemCode } from './device-error.ts';
import { createEmitter, type DeviceEventName, type Listener } from './device-events.ts';
import type { DeviceState } from './device-state.ts';
import { createSigner } from './envelope.ts';
import { type FolderLock, lockFolder } from './folder-lock.ts';
import { createHttpSender, type TlsFiles } from './http-sender.ts';
import { loadOrCreateKey, publicKeyHex, publicKeyPem } from './key.ts';
import { openOutbox } from './outbox.ts';
import { createPace } from './pace.ts';
import type { Sender } from './sender.ts';
import { type Part, readingsRoom, splitReadings } from './split.ts';
import { stampReadings, untimedPlaces } from './stamp.ts';
import { systemTime, type TimeSource, within } from './time-source.ts';
import { readTuning, type Tuning } from './tuning.ts';

/** What a device is opened with: who it is, where it keeps things, and a server with an API key or a sender. */
export interface DeviceOptions extends Partial<Tuning> {
  /** As it is registered. */
  readonly id: string;
  readonly profile: ProfileName;
  /** Key, outbox and dead letters live here; made when missing. One process at a time. */
  readonly folder: string;
  /** Base URL of the server. */
  readonly server?: string;
  /** An API key with the scope `ingest`. */
  readonly apiKey?: string;
  /** Http to another machine: the API key travels in the clear. */
  readonly allowInsecure?: boolean;
  readonly tls?: TlsFiles;
  /** Instead of `server` and `apiKey`, e.g. one of `mqtt-sender.ts`; it is closed with the device. */
  readonly sender?: Sender;
  /** The private P-256 key; default: the one in `key.pem` of the folder, made when missing. */
  readonly key?: KeyObject;
  /** For tests. */
  readonly time?: TimeSource;
  /** In [0, 1); for tests. */
  readonly random?: () => number;
}

/** What a device is and has done since it was opened. */
export interface DeviceStatus extends CourierCounts {
  readonly state: DeviceState;
  /** Envelopes that wait or are on their way, with their bytes on the disk. */
  readonly queued: number;
  readonly queuedBytes: number;
  /** Envelopes that had to go for newer ones. */
  readonly dropped: number;
  /** Null before the server has told its time. */
  readonly clock: KnownOffset | null;
}

/** An open device. */
export interface Device {
  readonly id: string;
  /** To register it with: PEM for `POST /v1/devices`, hex for the original routes. */
  readonly publicKeyPem: string;
  readonly publicKeyHex: string;
  /** The corrected time, Unix ms: the server's as soon as it is known, else the machine's. */
  now(): number;
  /**
   * Queues readings, as few envelopes as they fit in; resolves with the ids once they are on the disk. `urgent` ones go
   * first and are dropped last; by default those with a trigger of a seismic sensor. Readings without `at` get the time of
   * this call; before the first answer of the server that may take `requestMs`. When it rejects, nothing of the report
   * will be sent.
   */
  report(readings: readonly object[], options?: { readonly urgent?: boolean }): Promise<string[]>;
  /** Resolves with true once nothing waits, with false when `timeoutMs` is over before. */
  flush(timeoutMs: number): Promise<boolean>;
  status(): DeviceStatus;
  /** Answers how to stop listening. */
  on<Name extends DeviceEventName>(name: Name, listener: Listener<Name>): () => void;
  /** For `POST /v1/auth/device`; see `challenge.ts`. */
  signChallenge(nonce: string): string;
  /** Lets what is on its way end (2 s), keeps the rest on the disk, frees the folder. */
  close(): Promise<void>;
}

/** How long what is on its way may take when the device is closed. */
const GRACE_MS = 2000;

/** Opens a device. Rejects with a DeviceError; nothing stays locked or open then. */
export async function openDevice(options: DeviceOptions): Promise<Device> {
  const tuning = checkOptions(options);
  const folder = resolve(options.folder);
  const sender = chooseSender(options, tuning);
  await mkdir(folder, { recursive: true, mode: 0o700 }).catch((error: unknown) => {
    throw diskError(folder, error);
  });
  const lock = await lockFolder(folder);
  try {
    return await openIn(folder, { ...options, sender }, tuning, lock);
  } catch (error) {
    await lock.release();
    throw error;
  }
}

function checkOptions({ id, profile, folder, ...rest }: DeviceOptions): Tuning {
  const refuse = (text: string): DeviceError => new DeviceError('option-invalid', text);
  if (!isIdentifier(id)) throw refuse('id must be 1 to 64 of A-Z a-z 0-9 . _ -');
  if (!isProfileName(profile)) throw refuse('profile must be seismic, host or mobile');
  if (typeof folder !== 'string' || folder === '') throw refuse('folder must be a path');
  return readTuning(rest);
}

function chooseSender(options: DeviceOptions, tuning: Tuning): Sender {
  const { sender, server, apiKey, allowInsecure = false, tls = {}, time = systemTime } = options;
  if (sender !== undefined) return sender;
  if (server === undefined || apiKey === undefined) {
    throw new DeviceError('option-invalid', 'server and apiKey are needed, or a sender');
  }
  const { requestMs, inFlight: connections } = tuning;
  return createHttpSender({ server, apiKey, allowInsecure, tls, requestMs, connections, time });
}

type Chosen = DeviceOptions & { readonly sender: Sender };

async function openIn(folder: string, options: Chosen, tuning: Tuning, lock: FolderLock): Promise<Device> {
  const { id, profile, sender, time = systemTime, random = Math.random } = options;
  await claimFor(id, folder);
  const key = options.key ?? (await loadOrCreateKey(join(folder, 'key.pem')));
  const signer = createSigner(id, key);
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
    id,
    publicKeyPem: publicKeyPem(key),
    publicKeyHex: publicKeyHex(key),
    now: () => clock.now(),
    report: (readings, { urgent = hasTrigger(profile, readings) } = {}) =>
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
    signChallenge: (nonce) => signChallenge(key, id, nonce),
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

/** A trigger of a seismic sensor: it may be part of an alarm. Callers without types may pass anything. */
function hasTrigger(profile: ProfileName, readings: readonly object[]): boolean {
  const isList: boolean = Array.isArray(readings);
  return profile === 'seismic' && isList && readings.some((reading) => Object.hasOwn(reading ?? {}, 'value'));
}
