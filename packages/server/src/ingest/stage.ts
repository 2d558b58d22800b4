/**
 * The one shape of an ingest stage: it looks at the draft, fills in what it found out, and refuses or not. Stages run
 * in the order of the contract's section 2, on every transport, so the first refusal is the right one.
 */
import type { KeyObject } from 'node:crypto';
import type { Envelope } from '@tocsin/protocol/envelope';
import type { Refusal } from '@tocsin/protocol/errors';
import type { LogKind } from '../store/ports/log.ts';
import type { DeviceRow } from '../store/ports/registry.ts';

/** The transports that envelopes come by (a metric label). */
export type TransportName = 'http' | 'original' | 'mqtt' | 'grpc' | 'websocket';

/** What ingest knows of a device; `key` is its parsed public key, null for a host that nobody registered. */
export interface IngestDevice
  extends Pick<
    DeviceRow,
    'id' | 'number' | 'profile' | 'zoneId' | 'zoneNumber' | 'latitude' | 'longitude' | 'standing' | 'exercise'
  > {
  readonly key: KeyObject | null;
}

/** An envelope on its way in. Fields are null until the stage that finds them has run. */
export interface Draft {
  readonly transport: TransportName;
  readonly kind: LogKind;
  /** Unix ms. */
  readonly receivedAt: number;
  readonly traceparent: string | null;
  /** The text of `X-API-Key`. */
  readonly apiKey: string | undefined;
  /** The device that an MQTT topic names; null on other transports. */
  readonly topicDevice: string | null;
  /** Called when it stands in the line for the log, so that the next of its device may follow; null: nobody asks. */
  readonly entered: (() => void) | null;
  /** As it arrived; of MQTT with a character for each byte (latin1). */
  readonly body: string;
  keyId: string | null;
  deviceId: string | null;
  /** What was signed, and the signature (64 bytes r||s, or DER). */
  signed: string | null;
  signature: Buffer | null;
  /** The payload after JSON.parse, not yet checked. */
  payload: unknown;
  device: IngestDevice | null;
  envelope: Envelope | null;
  /** What tells envelopes of the device apart; the envelope's id, or made up for frames and the original client. */
  identity: string | null;
  /** What the log keeps, when it is not the body as it arrived. */
  record: string | null;
  /** When it was let pass under load, ms of the monotonic clock; null: not yet. */
  admittedAt: number | null;
}

/** A stage: null to go on. */
export type Stage = (draft: Draft) => Refusal | null | Promise<Refusal | null>;

/** What a transport knows of an envelope. */
type Arrived = Pick<Draft, 'traceparent' | 'apiKey' | 'body'> & {
  readonly topicDevice?: string;
  readonly entered?: () => void;
};

/** A draft of which nothing is known yet. Members one by one: spreading them costs a microsecond an envelope. */
export function newDraft(transport: TransportName, kind: LogKind, arrived: Arrived, receivedAt: number): Draft {
  return {
    transport,
    kind,
    receivedAt,
    traceparent: arrived.traceparent,
    apiKey: arrived.apiKey,
    topicDevice: arrived.topicDevice ?? null,
    entered: arrived.entered ?? null,
    body: arrived.body,
    keyId: null,
    deviceId: null,
    signed: null,
    signature: null,
    payload: null,
    device: null,
    envelope: null,
    identity: null,
    record: null,
    admittedAt: null,
  };
}
