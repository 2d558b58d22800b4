/**
 * Clients that come and go: whoever connects more than 15 times a minute is banned for 5 minutes, by client id, by user name
 * and by address, each counted on its own, for all processes of the installation (limiter and cells of the bus).
 *
 * How a thousand good hosts behind one address, or with one API key, differ from one that flaps: they connect once and stay.
 * - Client id: every connect counts. The id is one's own: within its API key or device, else (refused) within its address, so
 *   that nobody can have somebody else banned.
 * - User name and address: what counts is a connect that was refused for what it said, and a connection that ended by the
 *   client's doing within a minute. On top of the 15, three are allowed for each that was open at once in the last
 *   minutes: a site whose line breaks thrice in a minute comes back as a whole. What we ended ourselves counts for nothing, nor does what is banned already.
 * Failure: none; a bus that is away counts for this process alone.
 */
import { createHash } from 'node:crypto';
import { LIMITS } from '@tocsin/protocol/limits';
import type { Cells, Limiter } from '../../bus/ports/bus.ts';
import { boundMap } from '../../lib/bound-map.ts';
import type { Clock } from '../../lib/clock.ts';
import type { BanKind } from './embedded-options.ts';

/** A connection that lived shorter than this came and went, ms. */
export const SHORT_LIFE_MS = 60_000;
/** How long the most that were open at once is remembered, ms. */
const PEAK_MS = 120_000;
/** Groups (users, addresses) whose open connections are known; bans of addresses that are known here. */
const GROUPS_MOST = 50_000;
/** Connects a minute for each connection that was open at once. */
const RETURNS = 3;
const MINUTE = 60;

/** Something that may be banned. `name` is never logged. */
export interface Suspect {
  readonly kind: BanKind;
  readonly name: string;
}

/** Counts, and remembers who is banned. */
export interface Bans {
  /** The first of them that is banned. */
  banned(suspects: readonly Suspect[]): Promise<Suspect | null>;
  /** Whether this process has banned an address; asked before anything is read. */
  bannedHere(address: string): boolean;
  /** Counts one against each; answers whether one of them is banned by it. */
  count(suspects: readonly Suspect[]): Promise<boolean>;
  opened(suspect: Suspect): void;
  closed(suspect: Suspect): void;
}

/** What {@link createBans} needs. */
export interface BansOptions {
  readonly cells: Cells;
  readonly limiter: Limiter;
  readonly clock: Clock;
  readonly banned: (by: BanKind) => void;
}

interface Group {
  open: number;
  peak: number;
  peakAt: number;
}

const keyOf = ({ kind, name }: Suspect): string =>
  `${kind}:${createHash('sha256').update(name).digest('base64url').slice(0, 22)}`;

/** Creates the count. */
export function createBans({ cells, limiter, clock, banned }: BansOptions): Bans {
  const groups = new Map<string, Group>();
  const here = new Map<string, number>();

  const groupOf = (suspect: Suspect): Group => {
    const key = keyOf(suspect);
    const group = groups.get(key) ?? { open: 0, peak: 0, peakAt: clock.monotonic() };
    groups.delete(key);
    groups.set(key, group);
    boundMap(groups, GROUPS_MOST);
    return group;
  };
  const settle = (group: Group): Group => {
    const now = clock.monotonic();
    if (group.open < group.peak && now - group.peakAt < PEAK_MS) return group;
    group.peak = group.open;
    group.peakAt = now;
    return group;
  };
  const allowed = (suspect: Suspect): number =>
    LIMITS.mqttConnectsPerMinute.value + (suspect.kind === 'id' ? 0 : RETURNS * settle(groupOf(suspect)).peak);

  const countOne = async (suspect: Suspect): Promise<boolean> => {
    const burst = allowed(suspect);
    const key = keyOf(suspect);
    const answer = await limiter.take(`mqtt:connects:${key}`, { ratePerSecond: burst / MINUTE, burst });
    if (answer.allowed) return false;
    const ms = LIMITS.mqttBanMs.value;
    if (suspect.kind === 'address') {
      here.set(suspect.name, clock.monotonic() + ms);
      boundMap(here, GROUPS_MOST);
    }
    if (await cells.setIfAbsent(`mqtt:ban:${key}`, '1', ms)) banned(suspect.kind);
    return true;
  };

  return {
    async banned(suspects) {
      for (const suspect of suspects) if ((await cells.get(`mqtt:ban:${keyOf(suspect)}`)) !== null) return suspect;
      return null;
    },
    bannedHere(address) {
      const until = here.get(address);
      if (until === undefined) return false;
      if (until > clock.monotonic()) return true;
      here.delete(address);
      return false;
    },
    async count(suspects) {
      const results = await Promise.all(suspects.map(countOne));
      return results.includes(true);
    },
    opened(suspect) {
      const group = groupOf(suspect);
      group.open += 1;
      settle(group);
    },
    closed(suspect) {
      const group = groupOf(suspect);
      settle(group);
      group.open = Math.max(0, group.open - 1);
    },
  };
}
