/**
 * What a batch of log records comes to, before anything is written: pure but for the functions it is given. Records are
 * worked off in their order; a record that cannot be is set aside with its reason and stops nothing.
 *
 * What exercise devices tell is kept apart here, by its keys (`exercise.ts`): states and findings have the key of the
 * record, with its prefix; profiles and detectors are given the plain one.
 */
import type { Envelope, ProfileName, Reading } from '@tocsin/protocol/envelope';
import type { Finding, Detector } from '../detectors/detector.ts';
import type { Measured, Notice, Origin, TimedNotice, Watcher } from '../profiles/profile.ts';
import type { LogRecord } from '../store/ports/log.ts';
import type { FailedRecord, ReadingRow } from '../store/ports/readings.ts';
import { exerciseKey, plainKey } from './exercise.ts';
import { listeningSince } from './listening.ts';

/** What the batch needs to know of profiles and detectors. */
export interface Meaning {
  /** Turns the body of an `envelope` or `original` record into the envelope. Throws when it is none. */
  readonly decode: (record: LogRecord) => Envelope;
  readonly measure: (profile: ProfileName, reading: Reading) => Measured;
  readonly notice: (profile: ProfileName, origin: Origin, readings: readonly Reading[]) => Notice[];
  /** The detectors of a finding's key, by the key's prefix (`zone`, `network` …). */
  readonly detectors: (key: string) => readonly Detector<unknown, unknown>[];
  /** What watches each device of a profile, in its own partition; absent: nothing. */
  readonly watchers?: (profile: ProfileName) => readonly Watcher<unknown>[];
}

/** What keeps a state between records: a detector, or the watcher of a device. */
export interface Keeper {
  readonly name: string;
  readonly tick: (
    state: unknown,
    key: string,
    now: number,
    listeningSince: number,
  ) => {
    readonly state: unknown;
    readonly findings: readonly Finding[];
    /** Of watchers. */
    readonly notices?: readonly TimedNotice[];
  };
}

/** A detector's states by key. */
export type States = Map<string, StateEntry>;

/** One state in memory. */
export interface StateEntry {
  readonly detector: Keeper;
  readonly key: string;
  readonly state: unknown;
}

/** Findings for the log, by key. Those of exercise devices have keys of their own. */
export interface KeyedNotices {
  readonly key: string;
  readonly receivedAt: number;
  readonly traceparent: string | null;
  readonly items: unknown[];
}

/** Everything that a batch comes to. */
export interface Outcome {
  /** Offset of the last record worked off. */
  readonly last: number;
  readonly rows: ReadingRow[];
  readonly notices: KeyedNotices[];
  /** With the trace of the record that they came from. */
  readonly findings: {
    readonly finding: Finding;
    readonly key: string;
    readonly traceparent: string | null;
    readonly now: number;
  }[];
  /** States that changed; null where one was forgotten. */
  readonly states: Map<string, StateEntry>;
  readonly failed: FailedRecord[];
}

const NOTHING: readonly Notice[] = [];
/** Findings of one record at most, so that no record grows beyond what a worker reads at once. */
const ITEMS_PER_RECORD = 2000;

/** The name of a state in memory. */
export function stateName(detector: string, key: string): string {
  return `${detector} ${key}`;
}

/** Works a batch off. `states` is read, not changed. */
export function workOff(meaning: Meaning, states: States, records: readonly LogRecord[]): Outcome {
  const last = records.at(-1)?.offset ?? 0;
  const outcome: Outcome = { last, rows: [], notices: [], findings: [], states: new Map(), failed: [] };
  for (const record of records) {
    try {
      one(meaning, states, record, outcome);
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      const { partition, offset, kind, key, body } = record;
      outcome.failed.push({ partition, offset, kind, key, body, reason: reason.slice(0, 500) });
    }
  }
  return outcome;
}

function one(meaning: Meaning, states: States, record: LogRecord, outcome: Outcome): void {
  switch (record.kind) {
    case 'envelope':
    case 'original':
    case 'frame':
      return envelope(meaning, states, record, outcome);
    case 'finding':
      return finding(meaning, states, record, outcome);
    case 'tick':
      return tick(states, record, outcome);
  }
}

function envelope(meaning: Meaning, states: States, record: LogRecord, outcome: Outcome): void {
  const { context, receivedAt, traceparent } = record;
  if (context === null) throw new Error('the record has no device');
  const { id, profile, readings } = record.envelope ?? meaning.decode(record);
  const rows = readings.map((reading) => {
    const { value, fields } = meaning.measure(profile, reading);
    return { receivedAt, at: reading.at, device: context.device, zone: context.zone, value, envelopeId: id, fields };
  });
  const { zoneId, place = null, exercise = false } = context;
  const origin: Origin = {
    deviceId: record.key,
    zoneId,
    envelopeId: id,
    now: receivedAt,
    byArrival: record.kind === 'frame',
    place,
    ...(exercise ? { exercise } : {}),
  };
  const notices = meaning.notice(profile, origin, readings);
  const watched: Watched[] = [];
  for (const watcher of meaning.watchers?.(profile) ?? []) {
    const seen = watch(watcher, current(states, outcome, stateName(watcher.name, record.key)), origin, readings);
    if (seen !== null) watched.push(seen);
  }
  // Nothing of a record that fails takes effect, so effects come last.
  for (const row of rows) outcome.rows.push(row);
  const pass = ({ key, item }: Notice, exact: boolean): void =>
    collect(outcome.notices, { key: exercise ? exerciseKey(key) : key, receivedAt, traceparent }, item, exact);
  for (const notice of notices) pass(notice, false);
  for (const { entry, told } of watched) {
    if (entry !== null) outcome.states.set(stateName(entry.detector.name, record.key), entry);
    for (const notice of told) pass(notice, true);
  }
}

/** What a watcher made of an envelope. The entry is null when its state is as it was. */
interface Watched {
  readonly entry: StateEntry | null;
  readonly told: readonly Notice[];
}

/** A watcher over an envelope's readings, in the order of their times. Null: nothing changed, nothing was told. */
function watch(
  watcher: Watcher<unknown>,
  before: unknown,
  origin: Origin,
  readings: readonly Reading[],
): Watched | null {
  let told: readonly Notice[] = NOTHING;
  let state = before;
  for (const reading of readings.length > 1 ? readings.toSorted((a, b) => a.at - b.at) : readings) {
    const step = watcher.step(state, origin, reading);
    state = step.state;
    if (step.notices.length > 0) told = [...told, ...step.notices];
  }
  if (state === before && told.length === 0) return null;
  return { entry: state === before ? null : { detector: watcher, key: origin.deviceId, state }, told };
}

/**
 * Adds to the newest record for the key, or begins one. The record's arrival is that of its first envelope; with `exact`
 * no record holds two arrivals: detectors go by the very time at which a watcher told.
 */
function collect(
  notices: KeyedNotices[],
  { key, receivedAt, traceparent }: Omit<KeyedNotices, 'items'>,
  item: unknown,
  exact: boolean,
): void {
  const open = notices.findLast((other) => other.key === key);
  const fits = open !== undefined && open.items.length < ITEMS_PER_RECORD && !(exact && open.receivedAt !== receivedAt);
  if (fits) open.items.push(item);
  else notices.push({ key, receivedAt, traceparent, items: [item] });
}

function finding(meaning: Meaning, states: States, record: LogRecord, outcome: Outcome): void {
  const items = JSON.parse(record.body) as unknown[];
  const key = plainKey(record.key);
  for (const detector of meaning.detectors(key)) {
    const name = stateName(detector.name, record.key);
    const found: Finding[] = [];
    const before = current(states, outcome, name);
    let state = before;
    for (const item of items) {
      const step = detector.step(state, key, item, record.receivedAt);
      state = step.state;
      found.push(...step.findings);
    }
    if (state !== null || before !== null) outcome.states.set(name, { detector, key: record.key, state });
    tell(outcome, record, record.key, found);
  }
}

function tick(states: States, record: LogRecord, outcome: Outcome): void {
  const { receivedAt, traceparent } = record;
  const since = listeningSince(record);
  // States that this batch made are no different: where a batch ends changes nothing.
  for (const [name, { detector, key }] of new Map([...states, ...outcome.states])) {
    const state = current(states, outcome, name);
    if (state === null) continue;
    const step = detector.tick(state, plainKey(key), receivedAt, since);
    if (step.state !== state) outcome.states.set(name, { detector, key, state: step.state });
    tell(outcome, record, key, step.findings);
    for (const { key: to, item, exercise = false } of step.notices ?? [])
      collect(outcome.notices, { key: exercise ? exerciseKey(to) : to, receivedAt, traceparent }, item, true);
  }
}

function current(states: States, outcome: Outcome, name: string): unknown {
  const changed = outcome.states.get(name);
  return changed === undefined ? (states.get(name)?.state ?? null) : changed.state;
}

function tell(outcome: Outcome, record: LogRecord, key: string, findings: readonly Finding[]): void {
  const { traceparent, receivedAt: now } = record;
  for (const found of findings) outcome.findings.push({ finding: found, key, traceparent, now });
}
