/** What the embedded broker is given: settings, and the parts of the program that it speaks to, by their shape. Types only. */
import type { Cells, Limiter, PublishSubscribe } from '../../bus/ports/bus.ts';
import type { Clock } from '../../lib/clock.ts';
import type { TlsOptions } from '../http/server-socket.ts';
import type { RefusedUnread, TakeMqttMessage } from './message.ts';

/** Where it listens, and what it takes. */
export interface EmbeddedSettings {
  readonly host: string;
  /** 0: any free one. */
  readonly port: number;
  /** Topic filters, checked at the start (`topic.ts`). */
  readonly filters: readonly string[];
  /** Addresses and CIDRs behind which there are many: no limit counts these addresses. */
  readonly trustedProxies: readonly string[];
}

/** Identity, as far as devices need it. The functions throw RefusalErrors, or a CodedError of the store. */
export interface EmbeddedIdentity {
  /** The living API key of this text; null when there is none. */
  apiKey(text: string): Promise<{ readonly id: string; readonly scopes: readonly string[] } | null>;
  accessToken(jwt: string): Promise<{
    readonly deviceId: string | null;
    readonly scope: string;
    readonly sessionId: string;
    /** Unix ms. */
    readonly expiresAt: number;
  }>;
  /** Whether the device may send (registered and active). */
  deviceActive(id: string): Promise<boolean>;
  readonly sessions: {
    /** Those of `ids` that have ended. */
    dead(ids: readonly string[]): Promise<readonly string[]>;
    /** Calls `listener` with ids that ended just now; answers how to stop. */
    onEnded(listener: (ids: readonly string[]) => void): () => void;
  };
}

/** Why a connection was refused before it was one. */
export type RefusedConnect =
  | 'malformed'
  | 'too-large'
  | 'timeout'
  | 'protocol'
  | 'client-id'
  | 'credentials'
  | 'forbidden'
  | 'banned'
  | 'crowded'
  | 'unavailable'
  | 'abandoned'
  | 'tls';

/** Why a connection ended. */
export type EndReason =
  | 'disconnect'
  | 'lost'
  | 'keep-alive'
  | 'malformed'
  | 'too-large'
  | 'flood'
  | 'slow'
  | 'replaced'
  | 'credential'
  | 'store'
  | 'end';

/** What a ban is for. */
export type BanKind = 'id' | 'user' | 'address';

/** What is measured and logged. */
export interface EmbeddedMetrics {
  connections(change: 1 | -1): void;
  refused(reason: RefusedConnect): void;
  ended(reason: EndReason): void;
  banned(by: BanKind): void;
  /** A message was dropped, and acknowledged, before the stages. */
  readonly rejected: RefusedUnread;
}

/** What {@link createEmbeddedBroker} needs. */
export interface EmbeddedOptions {
  readonly settings: EmbeddedSettings;
  /** Absent: plain MQTT. */
  readonly tls?: TlsOptions;
  readonly take: TakeMqttMessage;
  readonly identity: EmbeddedIdentity;
  readonly bus: { readonly cells: Cells; readonly limiter: Limiter; readonly pubsub: PublishSubscribe };
  readonly clock: Clock;
  readonly metrics: EmbeddedMetrics;
  readonly log: {
    info(fields: object, message: string): void;
    warn(fields: object, message: string): void;
    error(fields: object, message: string): void;
  };
  /** Time between two looks at all connections, ms; 1000 when absent. */
  readonly sweepMs?: number;
}
