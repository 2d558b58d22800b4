/**
 * The life of a connection as one tagged state and one table.
 *
 * `opening` (upgraded, no viewer yet) -> `live` (it answers) <-> `probing` (a ping is out) -> `moving` (told to go elsewhere,
 * alerts flow on) -> `closing` (a close frame is out, nothing more is sent) -> `closed`. Pure; times are monotonic ms.
 * A credential that is renewed, or runs out, is no state of its own: it moves `reauthenticateBy`, or closes.
 */

/** Where a connection is. */
export type ConnectionState =
  | { readonly kind: 'opening' }
  | { readonly kind: 'live'; readonly pingAt: number }
  /** `since`: of the first ping without an answer; `pingAt`: of the next one. */
  | { readonly kind: 'probing'; readonly since: number; readonly pingAt: number }
  | { readonly kind: 'moving'; readonly closeAt: number }
  | { readonly kind: 'closing'; readonly code: number; readonly since: number }
  | { readonly kind: 'closed'; readonly code: number };

/** What happens to a connection. */
export type ConnectionEvent = 'joined' | 'pinged' | 'answered' | 'told-to-move' | 'close' | 'ended';

/** Every step that a connection may take; an event without an entry changes nothing. */
export const CONNECTION_STEPS: Readonly<
  Record<ConnectionState['kind'], Partial<Record<ConnectionEvent, ConnectionState['kind']>>>
> = {
  opening: { joined: 'live', close: 'closing', ended: 'closed' },
  live: { pinged: 'probing', 'told-to-move': 'moving', close: 'closing', ended: 'closed' },
  probing: { pinged: 'probing', answered: 'live', 'told-to-move': 'moving', close: 'closing', ended: 'closed' },
  moving: { close: 'closing', ended: 'closed' },
  closing: { ended: 'closed' },
  closed: {},
};

/** What is due on a connection at a time. */
export type Due = 'nothing' | 'ping' | 'cut' | 'move-on' | 'expired';

/** True while the peer may still speak and be spoken to. Pure. */
export function isOpen(state: ConnectionState): boolean {
  return state.kind === 'live' || state.kind === 'probing' || state.kind === 'moving';
}

/** True when the event takes the state to `next`. Pure. */
export function leadsTo(state: ConnectionState, event: ConnectionEvent, next: ConnectionState['kind']): boolean {
  return CONNECTION_STEPS[state.kind][event] === next;
}

/**
 * What the shared timer has to do now. `expired`: the credential's time is over. `pongMs`: how long an answer may take, to a
 * ping as to a close frame. Pure.
 */
export function dueNow(state: ConnectionState, expired: boolean, now: number, pongMs: number): Due {
  switch (state.kind) {
    case 'opening':
    case 'closed':
      return 'nothing';
    case 'closing':
      return now - state.since >= pongMs ? 'cut' : 'nothing';
    case 'moving':
      if (expired) return 'expired';
      return now >= state.closeAt ? 'move-on' : 'nothing';
    case 'live':
      if (expired) return 'expired';
      return now >= state.pingAt ? 'ping' : 'nothing';
    case 'probing':
      if (expired) return 'expired';
      if (now - state.since >= pongMs) return 'cut';
      return now >= state.pingAt ? 'ping' : 'nothing';
  }
}
