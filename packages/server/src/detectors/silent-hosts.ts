/**
 * Silent hosts of the whole installation: one alert for each, or one for many that fell silent together. Key `hosts:silence`.
 *
 * A rack that loses power, a network or a broker that is away silences hundreds of hosts within a minute; hundreds of alerts
 * would drown everyone. So silences wait for `HOLD_MS`, in which the ticks of all partitions have told theirs. Then those
 * whose silences began within `WINDOW_MS` of one another are counted, with those of that time that were told already: from
 * `GROUP_FROM` on the new ones are one group, which is one alert without a device. A group grows by silences that began
 * within a window of its own; it is told again when it has grown by half, and else once in `RETELL_MS` at most. It ends when
 * all of its hosts are heard again or given up.
 *
 * Who of them is to be missed only the registry knows: findings of groups name all, and `{silent}` and `{hosts}` in their
 * texts stand for the numbers of those that are (`app/complete-finding.ts`).
 *
 * What is told hangs on the ticks and on what is known by then, never on the order within: partitions are ahead of one
 * another.
 */
import type { Detector, Finding, Step } from './detector.ts';
import type { SilenceNotice } from './silence.ts';

/** A host and when it was heard last, Unix ms. */
interface Silent {
  readonly deviceId: string;
  readonly since: number;
}

/** Hosts that fell silent together. */
interface Group {
  /** Its name; no other has it. Unix ms. */
  readonly onset: number;
  /** Between these its silences began. */
  readonly from: number;
  readonly until: number;
  /** Hosts that are silent now, by id. */
  readonly members: readonly string[];
  /** The most that were silent at once: one that comes and goes is one host. */
  readonly hosts: number;
  /** What was told last, and when. */
  readonly told: { readonly hosts: number; readonly members: number; readonly at: number };
}

/** What is remembered: silences that wait, hosts that were told one by one, and groups; none of them over. */
export interface SilentHostsState {
  readonly waiting: readonly (Silent & { readonly noted: number })[];
  /**
   * Ends of silences that are not known yet: a frame that took long to be committed may be told before the tick that it came
   * too late for, because what is told stands in the log by its arrival.
   */
  readonly early: readonly (Silent & { readonly noted: number })[];
  readonly singles: readonly Silent[];
  readonly groups: readonly Group[];
}

/** To the next tick of its partition, by when those of all others have come, ms. */
const HOLD_MS = 5000;
const WINDOW_MS = 60_000;
/** How long an early end waits for its silence, ms. */
const EARLY_MS = 60_000;
/** So many hosts are told as one. */
export const GROUP_FROM = 10;
/** Of one group; further ones make another. */
const MOST_MEMBERS = 10_000;
const GROWTH = 1.5;
const RETELL_MS = 60_000;

const EMPTY: SilentHostsState = { waiting: [], early: [], singles: [], groups: [] };

/** Builds the detector. */
export function silentHostsDetector(): Detector<SilentHostsState, SilenceNotice> {
  return {
    name: 'silent-hosts',
    step: (state, _key, notice, now) => {
      const known = state ?? EMPTY;
      if (notice.kind === 'silent') return { state: begun(known, notice, now), findings: [] };
      return notice.kind === 'back' || notice.kind === 'gone' ? over(known, notice, now) : { state, findings: [] };
    },
    tick: (state, _key, now) => judged(state, now),
  };
}

/** A host is silent. */
function begun(state: SilentHostsState, { deviceId, since }: SilenceNotice, now: number): SilentHostsState | null {
  const ended = state.early.findIndex((other) => other.deviceId === deviceId && other.since === since);
  if (ended >= 0) return settled({ ...state, early: state.early.toSpliced(ended, 1) });
  return { ...state, waiting: [...state.waiting, { deviceId, since, noted: now }] };
}

/** A host is silent no more, or no longer expected. */
function over(state: SilentHostsState, notice: SilenceNotice, now: number): Step<SilentHostsState> {
  const { deviceId } = notice;
  const waits = state.waiting.findIndex((other) => other.deviceId === deviceId);
  if (waits >= 0) return { state: settled({ ...state, waiting: state.waiting.toSpliced(waits, 1) }), findings: [] };
  const alone = state.singles.findIndex((other) => other.deviceId === deviceId);
  if (alone >= 0)
    return { state: settled({ ...state, singles: state.singles.toSpliced(alone, 1) }), findings: [singleEnd(notice)] };
  for (const [place, group] of state.groups.entries()) {
    const member = placeOf(group.members, deviceId);
    if (group.members[member] !== deviceId) continue;
    if (group.members.length === 1)
      return {
        state: settled({ ...state, groups: state.groups.toSpliced(place, 1) }),
        findings: [groupEnd(group, notice)],
      };
    const left = { ...group, members: group.members.toSpliced(member, 1) };
    return { state: { ...state, groups: state.groups.with(place, left) }, findings: [] };
  }
  if (notice.kind === 'gone') return { state: settled(state), findings: [] };
  return {
    state: { ...state, early: [...state.early, { deviceId, since: notice.since, noted: now }] },
    findings: [],
  };
}

function judged(all: SilentHostsState, now: number): Step<SilentHostsState> {
  const early = all.early.filter((other) => now - other.noted < EARLY_MS);
  const before = early.length === all.early.length ? all : { ...all, early };
  const ready = before.waiting.some(({ noted }) => now - noted >= HOLD_MS);
  const { state, findings } = ready ? release(before) : { state: before, findings: [] };
  const told: Finding[] = [];
  const groups = state.groups.map((group) => {
    if (!worthTelling(group, now)) return group;
    told.push(groupFinding(group));
    return { ...group, told: { hosts: group.hosts, members: group.members.length, at: now } };
  });
  if (told.length === 0) return { state: settled(state), findings };
  return { state: { ...state, groups }, findings: [...findings, ...told] };
}

/** What waits becomes part of a group, a group of its own, or single. */
function release(state: SilentHostsState): { state: SilentHostsState; findings: Finding[] } {
  const groups = [...state.groups];
  const singles = [...state.singles];
  const findings: Finding[] = [];
  let rest: Silent[] = state.waiting
    .map(({ deviceId, since }) => ({ deviceId, since }))
    .sort((a, b) => a.since - b.since || (a.deviceId < b.deviceId ? -1 : 1));
  for (;;) {
    rest = rest.filter((host) => !joins(groups, host));
    const [first] = rest;
    if (first === undefined) break;
    const together = rest.filter(({ since }) => since - first.since <= WINDOW_MS);
    const lately = singles.filter(({ since }) => Math.abs(since - first.since) <= WINDOW_MS).length;
    if (together.length + lately >= GROUP_FROM) {
      groups.push(newGroup(groups, together.slice(0, MOST_MEMBERS)));
      rest = rest.slice(Math.min(together.length, MOST_MEMBERS));
    } else {
      singles.push(first);
      findings.push(singleFinding(first));
      rest = rest.slice(1);
    }
  }
  return { state: { ...state, waiting: [], singles, groups }, findings };
}

/** True when it became part of one of them. */
function joins(groups: Group[], { deviceId, since }: Silent): boolean {
  const place = groups.findIndex(
    ({ from, until, members }) =>
      since >= from - WINDOW_MS && since <= until + WINDOW_MS && members.length < MOST_MEMBERS,
  );
  const group = groups[place];
  if (group === undefined) return false;
  const joined = group.members.toSpliced(placeOf(group.members, deviceId), 0, deviceId);
  groups[place] = {
    ...group,
    from: Math.min(group.from, since),
    until: Math.max(group.until, since),
    members: joined,
    hosts: Math.max(group.hosts, joined.length),
  };
  return true;
}

function newGroup(groups: readonly Group[], hosts: readonly Silent[]): Group {
  const from = hosts[0]?.since ?? 0;
  let onset = from;
  while (groups.some((group) => group.onset === onset)) onset += 1;
  const members = hosts.map(({ deviceId }) => deviceId).sort();
  const told = { hosts: 0, members: 0, at: 0 };
  return { onset, from, until: hosts.at(-1)?.since ?? from, members, hosts: hosts.length, told };
}

function worthTelling({ hosts, members, told }: Group, now: number): boolean {
  if (hosts === told.hosts && members.length === told.members) return false;
  return hosts >= told.hosts * GROWTH || now - told.at >= RETELL_MS;
}

/** Where an id is among sorted ones, or would be. */
function placeOf(sorted: readonly string[], id: string): number {
  let low = 0;
  let high = sorted.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((sorted[middle] ?? '') < id) low = middle + 1;
    else high = middle;
  }
  return low;
}

function settled(state: SilentHostsState): SilentHostsState | null {
  return state.waiting.length + state.early.length + state.singles.length + state.groups.length === 0 ? null : state;
}

const COMMON = { kind: 'host.silent', status: 'actual', zoneId: null, latitude: null, longitude: null } as const;

/** `moderate`, a possible threat in the words of CAP 1.2: a host that says nothing may have stopped, or only its network. */
function singleFinding({ deviceId, since }: Silent): Finding {
  return {
    ...COMMON,
    severity: 'moderate',
    headline: `${deviceId} is silent`,
    description: `${deviceId} reported regularly and was last heard at ${time(since)}.`,
    deviceId,
    onset: since,
    subject: `device:${deviceId}`,
    evidence: { lastHeard: since },
  };
}

function singleEnd({ kind, deviceId, since, at }: SilenceNotice): Finding {
  const reason = kind === 'back' ? 'heard' : 'given-up';
  const silentSeconds = Math.round((at - since) / 1000);
  return {
    ...COMMON,
    ends: true,
    severity: 'unknown',
    headline: '',
    description:
      kind === 'back'
        ? `Heard again after ${duration(silentSeconds)}.`
        : `Closed: silent for ${duration(silentSeconds)}, no longer expected.`,
    deviceId,
    onset: since,
    subject: `device:${deviceId}`,
    evidence: { ended: { at, reason, silentSeconds } },
  };
}

/** `severe`: that many hosts at once have a common cause, and whatever they do is gone. */
function groupFinding({ onset, members, hosts }: Group): Finding {
  const back = hosts - members.length;
  return {
    ...COMMON,
    severity: 'severe',
    headline: back === 0 ? 'Silent hosts: {silent}' : 'Silent hosts: {silent} of {hosts}',
    description:
      `Hosts that reported regularly fell silent together from ${time(onset)} on, at most {hosts} at once; silent now: {silent}. ` +
      `They may have lost their power or network, or the way to us is broken.`,
    deviceId: null,
    onset,
    evidence: { hosts, silent: members.length, lastHeard: onset, devices: members },
  };
}

function groupEnd({ onset, hosts }: Group, { kind, at }: SilenceNotice): Finding {
  const silentSeconds = Math.round((at - onset) / 1000);
  const reason = kind === 'back' ? 'heard' : 'given-up';
  return {
    ...COMMON,
    ends: true,
    severity: 'unknown',
    headline: '',
    description: `Over after ${duration(silentSeconds)}: none of them is missed any more.`,
    deviceId: null,
    onset,
    evidence: { hosts, silent: 0, devices: [], ended: { at, reason, silentSeconds } },
  };
}

function time(at: number): string {
  return `${new Date(at).toISOString().slice(0, 19)}Z`;
}

/** In its two largest units. */
function duration(seconds: number): string {
  const units = [
    { name: 'd', most: Math.floor(seconds / 86_400) },
    { name: 'h', most: Math.floor(seconds / 3600) % 24 },
    { name: 'min', most: Math.floor(seconds / 60) % 60 },
    { name: 's', most: seconds % 60 },
  ];
  const first = units.findIndex(({ most }) => most > 0);
  if (first < 0) return '0 s';
  return units
    .slice(first, first + 2)
    .filter(({ most }) => most > 0)
    .map(({ name, most }) => `${most} ${name}`)
    .join(' ');
}
