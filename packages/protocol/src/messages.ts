/**
 * The messages of the WebSocket protocol `tocsin.v1`, both directions. JSON text, one object each.
 */
import type { Alert } from './alert.ts';
import type { HostFrame } from './frame.ts';

/** Always the first message of a connection. */
export interface WelcomeMessage {
  readonly type: 'welcome';
  readonly connection: string;
  readonly channel: string;
  readonly epoch: string;
  readonly offset: number;
  readonly recovered: boolean;
  readonly heartbeatSeconds: number;
  readonly watermarkSeconds: number;
  readonly reauthenticateBy: number;
}

/** What the server sends on every path. */
type ConnectionMessage =
  | WelcomeMessage
  | { readonly type: 'watermark'; readonly offset: number; readonly at: number }
  | { readonly type: 'authenticated'; readonly reauthenticateBy: number }
  | { readonly type: 'moving'; readonly retryAfterMs: number }
  | { readonly type: 'error'; readonly code: string; readonly detail: string }
  | { readonly type: 'pong' };

/** What the server sends on `/ws/alerts`. @public */
export type ServerMessage =
  | ConnectionMessage
  | { readonly type: 'alert' | 'alert-update'; readonly offset: number; readonly data: Alert };

/** Frames by the id of their device. */
export type FramesById = Readonly<Record<string, HostFrame>>;

/** What the server sends on `/ws/devices`: `snapshot` with every active device, `metrics` with one. @public */
export type LiveMessage = ConnectionMessage | { readonly type: 'snapshot' | 'metrics'; readonly data: FramesById };

/** What a client may send. */
export type ClientMessage =
  | { readonly type: 'authenticate'; readonly token: string }
  | { readonly type: 'received'; readonly offset: number }
  | { readonly type: 'command-acknowledged'; readonly id: string }
  | { readonly type: 'ping' };
