/**
 * The time of a station's samples: gaps, overlaps, duplicates, late packets, clocks that are wrong or are set.
 *
 * - A difference of at most `bridgeSeconds` is drift of the sampling clock: the packet goes on where the last ended.
 * - A longer gap restarts the filter; after `forgetSeconds` the noise level, too. Nothing is waited for: a packet that
 *   comes late lies before what was heard and is dropped, as a duplicate is. Of an overlap the new samples are used.
 * - Packets that lie before what was heard and that follow each other in time as in arrival mean that the clock was set
 *   back: after `clockPackets` of them the station begins anew.
 * - The clock itself: the least delay (arrival minus last sample) of late. Below zero, or longer than any network takes,
 *   it is the clock's error and is taken off; in between it is the network's.
 */
import type { PickerParameters } from '../profiles/seismic/detection.ts';
import type { Behind, ClockState, Packet, StationState } from './station-state.ts';

/** How a packet continues what was heard. `skip`: samples of it that are known already. */
export type Continuation =
  | { readonly kind: 'on'; readonly skip: number }
  | { readonly kind: 'gap'; readonly seconds: number }
  | { readonly kind: 'behind'; readonly behind: Behind }
  | { readonly kind: 'clock-set' };

/** Packets of a clock that was set arrive at least half as fast as their time passes: a burst is a backlog. */
const LEAST_PACE = 0.5;

/** Decides how `packet` of `samples` samples, arrived at `now`, continues `state`. Pure. */
export function continuation(
  parameters: PickerParameters,
  state: StationState,
  packet: Packet,
  samples: number,
  now: number,
): Continuation {
  const period = 1000 / packet.rate;
  const difference = packet.at - state.next;
  // A large packet may drift as far as its length allows.
  const bridge = Math.max(parameters.bridgeSeconds * 1000, 2 * period);
  if (Math.abs(difference) <= bridge) return { kind: 'on', skip: 0 };
  if (difference > 0) return { kind: 'gap', seconds: difference / 1000 };
  const skip = Math.round(-difference / period);
  if (skip < samples) return { kind: 'on', skip };
  const end = packet.at + samples * period;
  const { behind } = state;
  const follows = behind !== null && Math.abs(packet.at - behind.next) <= bridge;
  const paced = follows && now - behind.heardAt >= LEAST_PACE * samples * period;
  const packets = paced ? behind.packets + 1 : 1;
  if (packets >= parameters.clockPackets) return { kind: 'clock-set' };
  return { kind: 'behind', behind: { next: end, packets, heardAt: now } };
}

/** The clock after a packet whose last sample was at `end` and that arrived at `now`. */
export function nextClock(
  parameters: PickerParameters,
  clock: ClockState | null,
  end: number,
  now: number,
): ClockState {
  const delay = now - end;
  if (clock === null) return { least: delay, heardAt: now, steadySince: now };
  const risen = clock.least + (Math.max(0, now - clock.heardAt) / 1000) * parameters.clockCreep;
  const dropped = delay < risen - parameters.clockToleranceMs;
  return { least: Math.min(delay, risen), heardAt: now, steadySince: dropped ? now : clock.steadySince };
}

/** What has to be added to times of the device's clock, ms. */
export function correction(parameters: PickerParameters, clock: ClockState): number {
  return clock.least < 0 || clock.least > parameters.clockToleranceMs ? clock.least : 0;
}

/** True once the clock has been watched for long enough. */
export function steady(parameters: PickerParameters, clock: ClockState): boolean {
  return clock.heardAt - clock.steadySince >= parameters.clockSeconds * 1000;
}
