/**
 * Every WebSocket close code that the server sends, with what it means for the client.
 * `docs/protocol.md` and a test list exactly these rows.
 */

/** What a client should do after a close. */
export type CloseAdvice =
  | 'reconnect-after-delay'
  | 'reconnect-with-back-off'
  | 'reconnect-and-resume'
  | 'refresh-then-reconnect'
  | 'stay-away';

/** One row of {@link CLOSE_CODES}. @public */
export interface CloseRow {
  readonly code: number;
  readonly meaning: string;
  readonly advice: CloseAdvice;
}

/** The close codes by name. */
export const CLOSE_CODES = {
  end: { code: 1001, meaning: 'the server ends', advice: 'reconnect-after-delay' },
  restart: { code: 1012, meaning: 'the server restarts', advice: 'reconnect-after-delay' },
  policy: { code: 1008, meaning: 'malformed or forbidden message', advice: 'stay-away' },
  tooBig: { code: 1009, meaning: 'message over WS_MAX_MESSAGE_BYTES', advice: 'stay-away' },
  overloaded: { code: 1013, meaning: 'overloaded', advice: 'reconnect-with-back-off' },
  replaced: { code: 4001, meaning: 'replaced by a newer connection', advice: 'stay-away' },
  expired: { code: 4002, meaning: 'token expired or re-authentication missed', advice: 'refresh-then-reconnect' },
  paymentRequired: { code: 4003, meaning: 'payment required', advice: 'stay-away' },
  revoked: { code: 4004, meaning: 'session revoked (logout, lock)', advice: 'stay-away' },
  slow: { code: 4008, meaning: 'slow consumer', advice: 'reconnect-and-resume' },
  rate: { code: 4029, meaning: 'message rate exceeded', advice: 'reconnect-with-back-off' },
} as const;

/** The name of a row of {@link CLOSE_CODES}. */
export type CloseName = keyof typeof CLOSE_CODES;
