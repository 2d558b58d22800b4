import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  CONNECTION_STEPS,
  type ConnectionEvent,
  type ConnectionState,
  dueNow,
  isOpen,
  leadsTo,
} from './connection-state.ts';

const PONG = 10_000;
const KINDS = Object.keys(CONNECTION_STEPS) as ConnectionState['kind'][];
const EVENTS: readonly ConnectionEvent[] = ['joined', 'pinged', 'answered', 'told-to-move', 'close', 'ended'];

const ofKind = (kind: ConnectionState['kind']): ConnectionState => {
  switch (kind) {
    case 'opening':
      return { kind };
    case 'live':
      return { kind, pingAt: 100 };
    case 'probing':
      return { kind, since: 0, pingAt: 100 };
    case 'moving':
      return { kind, closeAt: 100 };
    case 'closing':
      return { kind, code: 1001, since: 0 };
    case 'closed':
      return { kind, code: 1001 };
  }
};

describe('the life of a connection', () => {
  it('ends for good: nothing leads out of closed, and only the end leads out of closing', () => {
    expect(CONNECTION_STEPS.closed).toEqual({});
    expect(CONNECTION_STEPS.closing).toEqual({ ended: 'closed' });
  });

  it('may be closed and may end from every state before that', () => {
    for (const kind of KINDS.filter((name) => name !== 'closing' && name !== 'closed')) {
      expect(CONNECTION_STEPS[kind]).toMatchObject({ close: 'closing', ended: 'closed' });
    }
  });

  it('never comes back to an earlier part of it, whatever happens in whatever order', () => {
    const age: Record<ConnectionState['kind'], number> = {
      opening: 0,
      live: 1,
      probing: 1,
      moving: 2,
      closing: 3,
      closed: 4,
    };
    fc.assert(
      fc.property(fc.array(fc.constantFrom(...EVENTS), { maxLength: 30 }), (events) => {
        let kind: ConnectionState['kind'] = 'opening';
        for (const event of events) {
          const next: ConnectionState['kind'] = CONNECTION_STEPS[kind][event] ?? kind;
          expect(age[next]).toBeGreaterThanOrEqual(age[kind]);
          kind = next;
        }
      }),
    );
  });

  it('takes only the step that the table has', () => {
    for (const kind of KINDS) {
      for (const event of EVENTS) {
        for (const next of KINDS) {
          expect(leadsTo(ofKind(kind), event, next)).toBe(CONNECTION_STEPS[kind][event] === next);
        }
      }
    }
  });

  it('is open while the peer may speak and be spoken to', () => {
    expect(KINDS.filter((kind) => isOpen(ofKind(kind)))).toEqual(['live', 'probing', 'moving']);
  });
});

describe('what is due', () => {
  it('is a ping at its time, and again while none is answered, until the answer took too long', () => {
    expect(dueNow({ kind: 'live', pingAt: 100 }, false, 99, PONG)).toBe('nothing');
    expect(dueNow({ kind: 'live', pingAt: 100 }, false, 100, PONG)).toBe('ping');
    expect(dueNow({ kind: 'probing', since: 100, pingAt: 1100 }, false, 1100, PONG)).toBe('ping');
    expect(dueNow({ kind: 'probing', since: 100, pingAt: 11_100 }, false, 10_099, PONG)).toBe('nothing');
    expect(dueNow({ kind: 'probing', since: 100, pingAt: 11_100 }, false, 10_100, PONG)).toBe('cut');
  });

  it('is the end of a credential before anything else while the connection is open', () => {
    for (const kind of ['live', 'probing', 'moving'] as const) {
      expect(dueNow(ofKind(kind), true, 1_000_000, PONG)).toBe('expired');
    }
    for (const kind of ['opening', 'closed'] as const) {
      expect(dueNow(ofKind(kind), true, 1_000_000, PONG)).toBe('nothing');
    }
  });

  it('is the close of one that was told to move, at its time and not before', () => {
    expect(dueNow({ kind: 'moving', closeAt: 100 }, false, 99, PONG)).toBe('nothing');
    expect(dueNow({ kind: 'moving', closeAt: 100 }, false, 100, PONG)).toBe('move-on');
  });

  it('is the cut of one that does not answer a close', () => {
    expect(dueNow({ kind: 'closing', code: 4002, since: 0 }, true, PONG - 1, PONG)).toBe('nothing');
    expect(dueNow({ kind: 'closing', code: 4002, since: 0 }, true, PONG, PONG)).toBe('cut');
  });
});
