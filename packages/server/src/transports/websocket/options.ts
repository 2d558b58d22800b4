/** What the WebSocket transport is given: settings, and the parts of the program that it speaks to, by their shape. */
import type { Server } from 'node:http';
import type { Duplex } from 'node:stream';
import type { Severity } from '@tocsin/protocol/alert';
import type { CloseName } from '@tocsin/protocol/close-codes';
import type { Refusal } from '@tocsin/protocol/errors';
import type {
  BucketAnswer,
  BucketShape,
  Cells,
  Limiter,
  PresenceBoard,
  PublishSubscribe,
} from '../../bus/ports/bus.ts';
import type { Clock } from '../../lib/clock.ts';
import type { ClientCertificate } from '../http/client-certificate.ts';

/** Who stands behind a credential. */
export interface WebSocketPrincipal {
  /** The claim `sub`. */
  readonly subject: string;
  readonly deviceId: string | null;
  /** Of a person's token; null for a device's. */
  readonly role: 'viewer' | 'operator' | 'admin' | null;
  readonly sessionId: string;
  /** Unix ms at which the credential ends. */
  readonly expiresAt: number;
}

/** The bounds and habits of connections (settings `WS_*`). */
export interface WebSocketSettings {
  /** `PUBLIC_URL`; the session cookie counts only with its origin. */
  readonly publicUrl: string;
  /** `WS_ALLOWED_ORIGINS`: origins, or URLs of which the origin counts. */
  readonly allowedOrigins: readonly string[];
  readonly allowQueryToken: boolean;
  /** `TRUSTED_PROXIES`: addresses and CIDRs. */
  readonly trustedProxies: readonly string[];
  readonly maxConnectionsPerUser: number;
  readonly maxConnectionsPerAddress: number;
  readonly reconnectsPerMinute: number;
  readonly maxMessageBytes: number;
  readonly messagesPer10Seconds: number;
  readonly heartbeatSeconds: number;
  readonly reauthenticateSeconds: number;
}

/** Where the bytes of a viewer go (the hub's `Sink`). */
export interface WebSocketSink {
  readonly open: boolean;
  readonly writableLength: number;
  write(bytes: Buffer): void;
  cork(): void;
  uncork(): void;
  whenDrained(callback: () => void): void;
  close(code: number, reason: string): void;
}

/** A viewer of the hub. */
export interface HubViewer {
  offset(): number;
  /** It has everything up to `offset`, by its own word. */
  received(offset: number): void;
  send(message: object): void;
  close(name?: CloseName): void;
}

/** How a viewer begins; the hub knows the rest of it. */
export interface HubPlan {
  readonly kind: string;
}

/** What a viewer asks for on the URL. */
export interface ViewerFilter {
  readonly zone: string | null;
  readonly minSeverity: Severity | null;
}

/** The hub of a channel, or of one form of it. */
export interface ViewerHub {
  plan(resume: { readonly epoch: string; readonly offset: number } | null): Promise<HubPlan | Refusal>;
  attach(
    sink: WebSocketSink,
    plan: HubPlan,
    filter: ViewerFilter,
    welcome: { readonly connection: string; readonly heartbeatSeconds: number; readonly reauthenticateBy: number },
  ): HubViewer;
}

/** What is at a path. */
export interface WebSocketChannel {
  readonly hub: ViewerHub;
  /** Whom it is for: `people` with a credential, `anyone` (who shows a credential needs a good one), holders of the `token`. */
  readonly access: 'people' | 'anyone' | 'token';
  /** True when it is the token that opens this channel, for reading only and for as long as one likes; absent: there is none. */
  readonly opens?: (token: string) => boolean;
  /** Whether `?zone=` and `?minSeverity=` mean something. */
  readonly filters: boolean;
  /** The original bridge's form: frames alone go out, what comes in is counted and ignored. */
  readonly raw: boolean;
}

/** Channels by their path on a listener. */
export type WebSocketChannels = ReadonlyMap<string, WebSocketChannel>;

/** A server that takes handshakes, and what for. */
export interface WebSocketListener {
  readonly server: Server;
  readonly channels: WebSocketChannels;
}

/** Which sessions have ended. */
export interface SessionWatch {
  /** Those of `ids` that have ended. */
  dead(ids: readonly string[]): Promise<readonly string[]>;
  /** Calls `listener` with ids that ended just now; answers how to stop. */
  onEnded(listener: (ids: readonly string[]) => void): () => void;
}

/** What is measured. Paths are the fixed ones, codes are close codes. */
export interface WebSocketMetrics {
  connections(path: string, change: 1 | -1): void;
  /** `reason`: one of `EndReason`. */
  closed(path: string, code: number, reason: string): void;
  duration(path: string, seconds: number): void;
  received(messages: number): void;
  /** From the upgrade request to the open connection. */
  handshake(path: string, seconds: number): void;
  /** A connection began; `plan`: `fresh`, `resume` (what it missed follows), `unrecovered`. */
  joined(path: string, plan: string): void;
  refused(path: string, code: string): void;
  /** The client was gone before its handshake was decided. */
  abandoned(path: string): void;
}

/** The log: one line for each connection at its end, and what went wrong here. Never tokens, never URLs. */
export interface WebSocketLog {
  info(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

/** What the transport needs. The verifying functions throw a RefusalError (or a CodedError of the store). */
export interface WebSocketOptions {
  readonly settings: WebSocketSettings;
  readonly clock: Clock;
  readonly bus: {
    readonly cells: Cells;
    readonly limiter: Limiter;
    readonly presence: PresenceBoard;
    readonly pubsub: PublishSubscribe;
    /** Whether what is said on it reaches the other processes. */
    healthy(): boolean;
  };
  /** Token buckets of this process alone, asked before anything that takes I/O. */
  readonly door: { take(key: string, shape: BucketShape): BucketAnswer };
  verifyAccessToken(jwt: string): Promise<WebSocketPrincipal>;
  redeemTicket(ticket: string): Promise<WebSocketPrincipal>;
  /** Checks the value of the cookie `tocsin_session`; the same as an access token when absent. */
  readonly verifySessionCookie?: (value: string) => Promise<WebSocketPrincipal>;
  /** Client certificates; absent: they count for nothing. */
  readonly certificates?: {
    /** What the peer of a socket showed at `now` (Unix ms); null: nothing. */
    of(socket: Duplex, now: number): ClientCertificate | null;
    /** Whose it is; only asked of one without doubt. */
    verify(certificate: ClientCertificate): Promise<WebSocketPrincipal>;
  };
  readonly sessions: SessionWatch;
  readonly metrics?: Partial<WebSocketMetrics>;
  readonly log: WebSocketLog;
  /** Time between two looks at all connections, in ms; 1000 when absent. */
  readonly sweepMs?: number;
}
