/**
 * What an agent tells the people who run it: changes, not frames. The same trouble is told once until it is over or another
 * one comes; losses are told with their sum, at most once a minute.
 */
import type { Emitter } from '../device-events.ts';
import type { WaitReason } from '../device-state.ts';
import type { TimeSource } from '../time-source.ts';
import type { DeadLetter } from '../dead-letters.ts';

/** One piece of news. `queued`: frames that wait on the disk. */
export type AgentNews =
  /** The server takes frames: the first time, or again. */
  | { readonly news: 'delivering'; readonly queued: number }
  /** `waiting`: it goes on by itself; `refused`: somebody has to mend it, and it asks again by itself. */
  | { readonly news: 'waiting' | 'refused'; readonly reason: WaitReason; readonly queued: number }
  /** No frame was made, because a number is missing. */
  | { readonly news: 'not-measured'; readonly detail: string }
  /** A frame was made and is lost: the disk did not take it. */
  | { readonly news: 'not-kept'; readonly detail: string }
  /** Frames are made and kept again. */
  | { readonly news: 'working' }
  /** Old frames that had to go for newer ones, since the start. */
  | { readonly news: 'dropped'; readonly frames: number }
  /** The server will never take a frame; it is in `dead-letters.jsonl`. */
  | { readonly news: 'dead-letter'; readonly reason: DeadLetter['reason']; readonly detail: string }
  /** The disk has lost frames that were kept, since the start. */
  | { readonly news: 'damaged'; readonly frames: number };

/** Why there is no frame. */
export type Trouble = 'not-measured' | 'not-kept';

/** The teller. */
export interface AgentTeller {
  /** A frame could not be made or kept. */
  trouble(kind: Trouble, detail: string): void;
  /** A frame is on the disk. */
  kept(): void;
  /** True while the server takes frames, as far as is known. */
  delivering(): boolean;
}

/** What the teller listens to. */
export interface TellerPorts {
  readonly on: Emitter['on'];
  readonly queued: () => number;
  readonly time: TimeSource;
  readonly tell: (news: AgentNews) => void;
}

const LOSSES_EVERY_MS = 60_000;

/** Begins to tell. */
export function startTeller({ on, queued, time, tell }: TellerPorts): AgentTeller {
  /** Where frames go: null before the first answer. */
  let way: string | null = null;
  let trouble: string | null = null;
  const dropped = createSum(time, (frames) => tell({ news: 'dropped', frames }));
  const damaged = createSum(time, (frames) => tell({ news: 'damaged', frames }));
  on('delivered', () => {
    if (way === 'delivering') return;
    way = 'delivering';
    tell({ news: 'delivering', queued: queued() });
  });
  on('state', (state) => {
    if (state.state !== 'waiting' && state.state !== 'refused') return;
    const now = `${state.state} ${state.reason}`;
    if (way === now) return;
    way = now;
    tell({ news: state.state, reason: state.reason, queued: queued() });
  });
  on('dropped', dropped);
  on('damaged', damaged);
  on('dead-letter', ({ reason, detail }) => tell({ news: 'dead-letter', reason, detail }));
  return {
    trouble: (kind, detail) => {
      const now = `${kind} ${detail}`;
      if (trouble === now) return;
      trouble = now;
      tell({ news: kind, detail });
    },
    kept: () => {
      if (trouble !== null) tell({ news: 'working' });
      trouble = null;
    },
    delivering: () => way === 'delivering',
  };
}

/** Counts, and tells the sum now and then. */
function createSum(time: TimeSource, tell: (sum: number) => void): () => void {
  let sum = 0;
  let told = Number.NEGATIVE_INFINITY;
  return () => {
    sum += 1;
    if (time.monotonic() - told < LOSSES_EVERY_MS) return;
    told = time.monotonic();
    tell(sum);
  };
}
