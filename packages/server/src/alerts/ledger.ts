/**
 * The ledger of alerts: turns findings and operators' actions into revisions of alerts and messages of their channel.
 *
 * Guarantees: one alert for each fingerprint, whoever raises it how often at once; every revision is one message, with
 * an offset without gaps, signed, stored before anyone is told; `body` of a message is the alert as it is sent.
 * Order of locks: alerts by fingerprint, then the head of the channel, which is held until the commit. So `raise` comes
 * last in its transaction, once.
 * Failure: whatever the store says; nothing was written then. A failed `publish` changes nothing: hubs read the store.
 */
import { type Alert, type AlertKind, type Severity, severityRank } from '@tocsin/protocol/alert';
import type { AlertFinding } from '@tocsin/protocol/finding';
import type { AlertDraft, AlertStore } from '../store/ports/alerts.ts';
import type { ChannelMessage, ChannelWriter } from '../store/ports/channels.ts';
import type { Database, Sql, Transaction } from '../store/ports/database.ts';
import { fingerprint } from './fingerprint.ts';
import {
  cleanFinding,
  decideRevision,
  endRevision,
  firstRevision,
  foldFindings,
  laterOf,
  nextRevision,
} from './revision.ts';
import { signAlert, type Signer } from './sign.ts';
import { type AlertAction, transition } from './transitions.ts';
import type { IdFactory } from '../lib/ulid.ts';

/** The channel that alerts are told on. */
export const ALERT_CHANNEL = 'alerts';

/** A message to publish after the commit, with what it tells (for metrics and notifiers). */
export interface RaisedMessage extends ChannelMessage {
  readonly type: 'alert' | 'alert-update';
  readonly alert: Alert;
}

/** What an operator's exercise says. */
export interface Drill {
  readonly severity: Severity;
  readonly headline: string;
  readonly description: string;
  readonly zoneId: string | null;
}

/** What became of an operator's action. `alert` is the alert as it stands now. */
export type ActionResult =
  | { readonly outcome: 'changed' | 'unchanged' | 'transition-forbidden'; readonly alert: Alert }
  | { readonly outcome: 'not-found' };

/** What {@link createLedger} needs. */
export interface LedgerOptions {
  readonly db: Database;
  readonly alerts: AlertStore;
  readonly channels: ChannelWriter;
  /** The current alert key; asked for each transaction, so that a rotation counts at once. */
  readonly signer: () => Signer;
  /** Makes ULIDs; one factory for each process. */
  readonly ids: IdFactory;
  /** Tells the bus, after the commit of the ledger's own transactions, in the order of offsets. */
  readonly publish: (messages: readonly RaisedMessage[]) => Promise<void> | void;
  readonly events: LedgerEvents;
}

/** What the ledger tells logs. */
export interface LedgerEvents {
  /** An operator changed an alert or made one (`drill`). `actor` is a user id. */
  acted(alertId: string, action: AlertAction | 'drill', actor: string): void;
  publishFailed(error: unknown): void;
}

/** The ledger. Times are Unix ms. */
export interface Ledger {
  /** Turns findings into alerts inside the caller's transaction; answers what to publish once it has committed. */
  raise(tx: Transaction, findings: readonly AlertFinding[], now: number): Promise<RaisedMessage[]>;
  /** An operator's action, in a transaction of its own. Doing it again changes nothing. */
  act(id: string, action: AlertAction, actor: string, now: number): Promise<ActionResult>;
  /** An operator's exercise: an alert of kind `operator.drill` and status `exercise`. */
  drill(drill: Drill, actor: string, now: number): Promise<Alert>;
}

/** The kind of an operator's exercise. */
const DRILL: AlertKind = 'operator.drill';

/** Builds the {@link Ledger}. */
export function createLedger(options: LedgerOptions): Ledger {
  const { db, alerts, ids, publish, events } = options;

  const announce = async (messages: readonly RaisedMessage[]): Promise<void> => {
    if (messages.length === 0) return;
    try {
      await publish(messages);
    } catch (error) {
      events.publishFailed(error);
    }
  };

  const raise: Ledger['raise'] = async (tx, findings, now) => {
    const drafts = await revisionsOf(tx, alerts, ids, foldFindings(findings.map(cleanFinding)), now);
    return enter(tx, options, drafts);
  };

  const act: Ledger['act'] = async (id, action, actor, now) => {
    const { result, messages } = await db.transaction(async (tx) => {
      const alert = await alerts.lockById(tx, id);
      if (alert === null) return { result: { outcome: 'not-found' } as const, messages: [] };
      const { outcome, ...change } = transition(alert.state, action);
      if (outcome !== 'changed') return { result: { outcome, alert }, messages: [] };
      const { offset: _offset, signature: _signature, ...content } = alert;
      const draft = { ...content, ...change, revision: alert.revision + 1, updatedAt: laterOf(alert, now) };
      const entered = await enter(tx, options, [draft]);
      return { result: { outcome, alert: entered[0]?.alert ?? alert }, messages: entered };
    });
    await announce(messages);
    if (result.outcome === 'changed') events.acted(id, action, actor);
    return result;
  };

  return {
    raise,
    act,
    async drill(drill, actor, now) {
      const id = ids(now);
      const finding: AlertFinding = {
        ...drill,
        kind: DRILL,
        status: 'exercise',
        deviceId: null,
        latitude: null,
        longitude: null,
        onset: now,
        // Two exercises in one millisecond are two.
        fingerprint: fingerprint(DRILL, `drill:${id}`, now),
        evidence: {},
      };
      const draft = firstRevision(id, cleanFinding(finding), now);
      const [message] = await db.transaction(async (tx) => {
        await alerts.insertNew(tx, [draft]);
        return enter(tx, options, [draft]);
      });
      if (message === undefined) throw new Error('a drill left no message');
      await announce([message]);
      events.acted(id, 'drill', actor);
      return message.alert;
    },
  };
}

/** The revisions that clean findings make, in the order of the findings; their rows are there and locked. */
async function revisionsOf(
  sql: Sql,
  alerts: AlertStore,
  ids: IdFactory,
  findings: readonly AlertFinding[],
  now: number,
): Promise<AlertDraft[]> {
  if (findings.length === 0) return [];
  const firsts = new Map<string, AlertDraft>();
  for (const finding of findings) {
    const { fingerprint: print, ends = false } = finding;
    if (!ends && !firsts.has(print)) firsts.set(print, firstRevision(ids(now), finding, now));
  }
  const inserted = new Set(firsts.size === 0 ? [] : await alerts.insertNew(sql, [...firsts.values()]));
  const others = [...new Set(findings.map((finding) => finding.fingerprint))].filter((print) => !inserted.has(print));
  const known = others.length === 0 ? [] : await alerts.lockByFingerprint(sql, others);
  const standing = new Map<string, AlertDraft>();
  for (const { offset: _offset, signature: _signature, ...content } of known)
    standing.set(content.fingerprint, content);
  const drafts: AlertDraft[] = [];
  for (const finding of findings) {
    const { fingerprint: print } = finding;
    const draft = draftOf(standing.get(print), inserted.has(print) ? firsts.get(print) : undefined, finding, now);
    if (draft === null) continue;
    standing.set(print, draft);
    drafts.push(draft);
  }
  return drafts;
}

/** What a finding makes of the alert as it stands, undefined where there is none yet; null: nothing. */
function draftOf(
  alert: AlertDraft | undefined,
  first: AlertDraft | undefined,
  finding: AlertFinding,
  now: number,
): AlertDraft | null {
  if (finding.ends === true)
    return alert !== undefined && transition(alert.state, 'resolve').outcome === 'changed'
      ? endRevision(alert, finding, now)
      : null;
  if (alert === undefined) return first ?? null;
  return decideRevision(alert, finding) === 'grown' ? nextRevision(alert, finding, now) : null;
}

/** Gives revisions their place in the channel, signs them and writes them. From `take` on every other writer waits. */
async function enter(
  sql: Sql,
  options: Pick<LedgerOptions, 'alerts' | 'channels' | 'signer'>,
  drafts: readonly AlertDraft[],
): Promise<RaisedMessage[]> {
  if (drafts.length === 0) return [];
  const signer = options.signer();
  const first = await options.channels.take(sql, ALERT_CHANNEL, drafts.length);
  const messages = drafts.map((draft, index) => messageOf(signAlert(placed(draft, first + index), signer)));
  for (const wave of wavesOf(messages)) {
    await options.alerts.enter(
      sql,
      wave.map((message) => ({ alert: message.alert, message })),
    );
  }
  return messages;
}

/** Cut where an alert comes again (it began and ended in one batch): a statement changes each row once. */
function wavesOf(messages: readonly RaisedMessage[]): RaisedMessage[][] {
  const waves: RaisedMessage[][] = [];
  const seen = new Set<string>();
  for (const message of messages) {
    if (waves.length === 0 || seen.has(message.alert.id)) {
      seen.clear();
      waves.push([]);
    }
    seen.add(message.alert.id);
    waves.at(-1)?.push(message);
  }
  return waves;
}

/** With its offset, members in the order of the wire. */
function placed(draft: AlertDraft, offset: number): Omit<Alert, 'signature'> {
  const { id, kind, severity, status, state, revision, ...rest } = draft;
  return { id, kind, severity, status, state, revision, offset, ...rest };
}

function messageOf(alert: Alert): RaisedMessage {
  return {
    channel: ALERT_CHANNEL,
    offset: alert.offset,
    type: alert.revision === 1 ? 'alert' : 'alert-update',
    zoneId: alert.zoneId,
    severity: severityRank(alert.severity),
    createdAt: alert.updatedAt,
    body: JSON.stringify(alert),
    alert,
  };
}
