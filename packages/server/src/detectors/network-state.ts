/** What a network of stations remembers, and what it hears. Plain JSON. */
import type { Told } from './station-state.ts';
import type { Place } from './travel.ts';

/** Something that a station told, with its place. `envelopeId` names the message it was found in. */
export type NetworkInput = Told & Place & { readonly deviceId: string; readonly envelopeId: string };

/** A station as the network knows it. */
export interface StationFacts extends Place {
  /** When it was last heard of, Unix ms. */
  readonly heardAt: number;
  /** Picks of late that belonged to no event, decaying; as of `busyAt`. */
  readonly busy: number;
  readonly busyAt: number;
}

/** A pick that the network holds. */
export interface HeldPick extends Place {
  readonly deviceId: string;
  readonly envelopeId: string;
  readonly at: number;
  readonly again: boolean;
  readonly amplitude: number;
  readonly level: number;
  readonly lasted: number;
  readonly clipped: boolean;
}

/** A station's part in an event. */
export interface Member extends HeldPick {
  /** Which wave the onset is taken for. */
  readonly phase: 'P' | 'S';
  /** Largest amplitude of all its picks that belong to the event, and the time of the last pick that raised it. */
  readonly peak: number;
  readonly peakAt: number;
}

/** An earthquake that was told of. */
export interface NetworkEvent extends Place {
  /** Onset of the first member's pick when it was decided; never changes, it names the event. */
  readonly onset: number;
  readonly origin: number;
  readonly decidedAt: number;
  readonly lane: Lane;
  readonly members: readonly Member[];
  /** Members when it was last told of, and the severity rank. */
  readonly told: number;
  readonly toldRank: number;
  /** When it last gained a station, Unix ms. */
  readonly gainedAt: number;
}

/** How an event was decided. */
export type Lane = 'quorum' | 'three-strong' | 'two-very-strong';

/** State of a network. */
export interface NetworkState {
  readonly stations: Readonly<Record<string, StationFacts>>;
  /** Picks that belong to no event, oldest arrival first. */
  readonly picks: readonly HeldPick[];
  readonly events: readonly NetworkEvent[];
}
