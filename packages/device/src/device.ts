/**
 * A device: signs its readings, keeps them on the disk until the server has them, and tries again by itself.
 *
 * Guarantees: a report that resolved is delivered once (it ends as one envelope at the server, however often processes,
 * networks and servers die), unless it has to go because the outbox is full, or the server will never take it; both are
 * counted and told. Times are the server's as soon as it is known. Nothing but envelopes and challenges is signed.
 * Failure: a DeviceError by its code. Page: `docs/device-sdk.md`.
 */
import type { KeyObject } from 'node:crypto';
import { join } from 'node:path';
import type { ProfileName } from '@tocsin/protocol/envelope';
import { signChallenge } from './challenge.ts';
import { DeviceError } from './device-error.ts';
import type { DeviceEventName, Listener } from './device-events.ts';
import { createSigner, type Signer } from './envelope.ts';
import { createHttpSender, type TlsFiles } from './http-sender.ts';
import { loadOrCreateKey, publicKeyHex, publicKeyPem } from './key.ts';
import { checkReporter, openReporter, type Reporter, type ReporterStatus } from './reporter.ts';
import type { Sender } from './sender.ts';
import { systemTime, type TimeSource } from './time-source.ts';
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
export type DeviceStatus = ReporterStatus;

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

/** Opens a device. Rejects with a DeviceError; nothing stays locked or open then. */
export async function openDevice(options: DeviceOptions): Promise<Device> {
  const { id, profile, folder, time = systemTime, random = Math.random } = options;
  checkReporter({ id, profile, folder });
  const tuning = readTuning(options);
  const sender = chooseSender(options, tuning);
  const signer = async (place: string): Promise<DeviceSigner> => {
    const key = options.key ?? (await loadOrCreateKey(join(place, 'key.pem')));
    return { ...createSigner(id, key), key };
  };
  return createDevice(id, profile, await openReporter({ id, profile, folder, sender, signer, tuning, time, random }));
}

interface DeviceSigner extends Signer {
  readonly key: KeyObject;
}

function createDevice(id: string, profile: ProfileName, reporter: Reporter<DeviceSigner>): Device {
  const { now, report, flush, status, on, close, signer } = reporter;
  const { key } = signer;
  return {
    id,
    publicKeyPem: publicKeyPem(key),
    publicKeyHex: publicKeyHex(key),
    ...{ now, flush, status, on, close },
    report: (readings, { urgent = hasTrigger(profile, readings) } = {}) => report(readings, urgent),
    signChallenge: (nonce) => signChallenge(key, id, nonce),
  };
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

/** A trigger of a seismic sensor: it may be part of an alarm. Callers without types may pass anything. */
function hasTrigger(profile: ProfileName, readings: readonly object[]): boolean {
  const isList: boolean = Array.isArray(readings);
  return profile === 'seismic' && isList && readings.some((reading) => Object.hasOwn(reading ?? {}, 'value'));
}
