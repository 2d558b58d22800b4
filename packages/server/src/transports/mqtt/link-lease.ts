/**
 * A slot in our hands: renewed while it is, by the store's clock.
 *
 * Guarantee: nobody connects as a slot without having asked the store just before (`sure`). A process that was frozen beyond
 * its lease may still have a connection: the next holder's takes it over at the broker, and the next renewal ends it here.
 * Failure: while the store is away the slot stays ours (nobody else can take it either, and what arrives is not
 * acknowledged); `sure` then rejects with `store-unavailable`.
 */
import { repeat } from '../../lib/repeat.ts';
import type { MqttSlot, MqttSlotNote, MqttSlots } from '../../store/ports/mqtt-slots.ts';
import { LinkError } from './link-reason.ts';

/** How long a lease lasts and how often it is renewed, ms. */
export interface LeaseTimes {
  readonly leaseMs: number;
  readonly renewMs: number;
}

/** A held slot. */
export interface Lease {
  readonly number: number;
  /** Filters that its session may be subscribed to, as last written down. */
  filters(): readonly string[];
  /** Several processes hold slots, as the last renewal said. */
  several(): boolean;
  /** Resolves when that changes. */
  changed(): Promise<void>;
  /** Aborted once it is another one's. */
  readonly lost: AbortSignal;
  /** Renews now. Rejects with `lease` when it is another one's, or `store-unavailable`. */
  sure(): Promise<void>;
  /** Rejects as `sure`. */
  note(note: MqttSlotNote): Promise<void>;
  /** Stops renewing, and gives the slot up or, with `ended`, says that its session is no more. Never rejects. */
  end(ended: boolean): Promise<void>;
}

/** Takes care of a slot that was claimed or adopted. */
export function holdLease(slots: MqttSlots, slot: MqttSlot, { leaseMs, renewMs }: LeaseTimes): Lease {
  const losing = new AbortController();
  let { filters } = slot;
  let several = false;
  let tell: () => void = () => undefined;
  let change = new Promise<void>((resolve) => {
    tell = resolve;
  });
  const lose = (): never => {
    losing.abort();
    throw new LinkError('lease', `slot ${slot.number} is another process's now`);
  };
  const sure = async (): Promise<void> => {
    const owners = await slots.renew(slot, leaseMs);
    if (owners === null) return lose();
    if (several === owners > 1) return;
    several = owners > 1;
    tell();
    change = new Promise((resolve) => {
      tell = resolve;
    });
  };
  const endRenewal = repeat([{ name: 'lease', everyMs: renewMs, work: sure }], () => undefined);
  return {
    number: slot.number,
    filters: () => filters,
    several: () => several,
    changed: () => change,
    lost: losing.signal,
    sure,
    async note(note) {
      if (!(await slots.note(slot, note))) lose();
      ({ filters } = note);
    },
    async end(ended) {
      await endRenewal();
      if (losing.signal.aborted) return;
      await (ended ? slots.remove(slot) : slots.release(slot)).catch(() => undefined);
    },
  };
}
