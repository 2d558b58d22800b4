/** What a fleet sends when an arrival is due: an honest envelope of the device whose turn it is, or an attack. */
import { createKey } from '../key.ts';
import type { Arrival } from './arrivals.ts';
import { buildAttack, type Recorded } from './attacks.ts';
import type { Attack, FleetOptions } from './fleet.ts';
import type { EnvelopeKind } from './fleet-report.ts';
import type { Random } from './random.ts';
import type { FleetSigner } from './signers.ts';

/** An arrival that is an envelope. */
export type DueEnvelope = Exclude<Arrival, { readonly kind: 'origin' }>;

/** A body to send. */
export interface Outgoing {
  readonly kind: EnvelopeKind;
  readonly body: string;
  readonly contentType?: string;
  readonly apiKey?: string;
  /** The answers that are right, beside 429 and 503. */
  readonly expects: readonly string[];
  /** Readings in it that count once it is accepted; of an attack none. */
  readonly readings: number;
  /** To be called when it was accepted. */
  accepted(): void;
}

/** When it is. `startedAt`: Unix ms of the run's start; `ms`: of the run, now. */
export interface Moment {
  readonly startedAt: number;
  readonly ms: number;
}

/** Accepted envelopes that are kept for replays. */
const RECORDED = 256;
const ACCEPTED: readonly string[] = ['202'];

/** Makes what is sent, in turn. */
export interface OutgoingSource {
  next(arrival: DueEnvelope, moment: Moment): Outgoing;
}

/** Builds it. `signers` is the fleet in its order; needs at least one device. */
export function createOutgoing(options: FleetOptions, signers: readonly FleetSigner[], random: Random): OutgoingSource {
  const speakers = signers.filter(({ waveform }) => !waveform);
  const foreignKey = createKey();
  const recorded: Recorded[] = [];
  const turns: Record<Attack, number> = { replay: 0, forged: 0, stale: 0, malformed: 0 };
  let [envelopes, spoken, attacks] = [0, 0, 0];
  const newId = (): string => {
    envelopes += 1;
    return `${options.run}-${envelopes.toString(36)}`;
  };
  const record = (one: Recorded): void => {
    if (recorded.length < RECORDED) recorded.push(one);
    else recorded[random.integer(RECORDED)] = one;
  };

  const attack = (now: number): Outgoing | null => {
    if (options.attacks.length === 0 || random.uniform() >= options.attackShare) return null;
    const kind = options.attacks[attacks % options.attacks.length];
    const device = speakers[random.integer(speakers.length)];
    if (kind === undefined || device === undefined) return null;
    attacks += 1;
    const victim = recorded[random.integer(Math.max(1, recorded.length))] ?? null;
    const made = buildAttack(kind, turns[kind], { device, foreignKey, recorded: victim, now, id: newId(), random });
    if (made === null) return null;
    turns[kind] += 1;
    return { ...made, readings: 0, accepted: () => undefined };
  };

  const honest = (device: FleetSigner, kind: EnvelopeKind, at: number, readings: readonly object[]): Outgoing => {
    const id = newId();
    const body = device.signer.seal({ id, at, profile: device.profile, readings });
    const accepted = options.attacks.includes('replay') ? () => record({ device, id, body }) : () => undefined;
    return { kind, body, expects: ACCEPTED, readings: readings.length, accepted };
  };

  return {
    next(arrival, { startedAt, ms }) {
      const now = Date.now();
      if (arrival.kind === 'base') {
        const bad = attack(now);
        if (bad !== null) return bad;
        const device = speakers[spoken % speakers.length];
        spoken += 1;
        if (device === undefined) throw new TypeError('a fleet without devices has nothing to say');
        return honest(device, device.profile === 'host' ? 'host' : 'trigger', now, device.measure(now, ms));
      }
      const device = signers[arrival.device];
      if (device === undefined) throw new TypeError('an arrival of a device that is not of the fleet');
      // The time of the ground, not that of sending: a generator that is late must not move the waves.
      const readings =
        arrival.kind === 'waveform'
          ? device.packet(startedAt + arrival.due, arrival.due)
          : device.trigger(Math.round(startedAt + arrival.felt.pMs), arrival.felt);
      return honest(device, arrival.kind, now, readings);
    },
  };
}
