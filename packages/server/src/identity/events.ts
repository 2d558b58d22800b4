/** What identity tells the outside of itself: for metrics, the log and the audit. Never holds a secret. */

/** One thing that happened. `result` is the named reason. */
export type IdentityEvent =
  | {
      readonly kind: 'sign-in';
      readonly result: 'accepted' | 'wrong' | 'limited';
      readonly userId: string | null;
      readonly address: string;
    }
  | {
      readonly kind: 'refresh';
      readonly result: 'rotate' | 'repeat' | 'reuse' | 'unknown' | 'revoked' | 'expired' | 'fingerprint';
      readonly sessionId: string | null;
      readonly subject: string | null;
      readonly deviceId: string | null;
    }
  | { readonly kind: 'sign-out'; readonly sessionId: string }
  | { readonly kind: 'keys-rotated'; readonly kid: string }
  | {
      readonly kind: 'background-failed';
      readonly part: 'signing-keys' | 'sessions' | 'outside-keys' | 'api-keys';
      readonly error: unknown;
    };
