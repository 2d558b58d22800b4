/**
 * The messages of the WebSocket protocol `tocsin.v1`, both directions. JSON text, one object each.
 */
import type { Alert } from './alert.ts';

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

/** What the server sends on `/ws/alerts`. @public */
export type ServerMessage =
  | WelcomeMessage
  | { readonly type: 'alert' | 'alert-update'; readonly offset: number; readonly data: Alert }
  | { readonly type: 'watermark'; readonly offset: number; readonly at: number }
  | { readonly type: 'authenticated'; readonly reauthenticateBy: number }
  | { readonly type: 'moving'; readonly retryAfterMs: number }
  | { readonly type: 'error'; readonly code: string; readonly detail: string }
  | { readonly type: 'pong' };

/** What a client may send. */
export type ClientMessage =
  | { readonly type: 'authenticate'; readonly token: string }
  | { readonly type: 'received'; readonly offset: number }
  | { readonly type: 'command-acknowledged'; readonly id: string }
  | { readonly type: 'ping' };
