/** The credential of an open connection: how long it lasts, and which one may take its place. Pure. */
import type { WebSocketPrincipal } from './options.ts';

/** How long a connection without a credential lives by its `welcome`, in ms; nothing happens then. */
const ANONYMOUS_MS = 86_400_000;

/** The end of a credential's time on a connection that begins (or was authenticated) at `now`, Unix ms. */
export function reauthenticationDeadline(principal: WebSocketPrincipal | null, now: number, seconds: number): number {
  return principal === null ? now + ANONYMOUS_MS : Math.min(now + seconds * 1000, principal.expiresAt);
}

/** True when a new credential may take the place of the old one. */
export function sameHolder(before: WebSocketPrincipal, after: WebSocketPrincipal): boolean {
  return (
    before.subject === after.subject &&
    before.deviceId === after.deviceId &&
    (after.role === null) === (before.role === null)
  );
}
