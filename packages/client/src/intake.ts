/**
 * From a message that arrived to an alert that the application has handled: the place in the channel, the inbox, the
 * signature, what was told already, gaps, receipts, the resume point.
 *
 * Guarantees, within one page: a revision of an alert is delivered once, never an older one after a newer one; live ones
 * in the order of their offsets, one at a time; nothing whose signature does not check. What is in the inbox is delivered
 * even when the connection is gone. A receipt and the resume point follow the application's listeners.
 */
import type { WelcomeMessage } from '@tocsin/protocol/messages';
import type { ViewerAlert } from './alert-shape.ts';
import type { CredentialContext } from './credentials.ts';
import type { Environment } from './environment.ts';
import type { Gap } from './events.ts';
import { createGapFiller } from './gap.ts';
import { createInbox } from './inbox.ts';
import { createKeyRing } from './keys.ts';
import type { ConnectOptions } from './options.ts';
import { createReceipts } from './receipts.ts';
import { readResumePoint } from './resume-point.ts';
import { createSeen } from './seen.ts';
import type { Teller } from './teller.ts';

/** What waits for the application. */
type Item =
  | { readonly kind: 'alert'; readonly epoch: string; readonly alert: ViewerAlert }
  | { readonly kind: 'late'; readonly alert: ViewerAlert; readonly done: (news: boolean) => void }
  | { readonly kind: 'mark'; readonly epoch: string; offset: number; at: number; heardAt: number };

/** How far this page is in the channel. `accepted` is in the inbox or beyond it, `handled` was with the application. */
interface Position {
  readonly epoch: string;
  accepted: number;
  handled: number;
  /** The newest time of the server, Unix ms; 0 while it is not known. Never our own: our clock may be wrong. */
  at: number;
}

/** A gap is fetched from this much earlier than the newest known time, in ms: clocks of instances differ a little. */
const GAP_MARGIN_MS = 60_000;
/** How far back a gap is fetched when no time of the server is known, in ms by our clock. */
const GAP_BLIND_MS = 86_400_000;
/** An alert that does not check is asked for this often before it is passed over. */
const FORGED_TRIES = 3;
/** How soon to look again whether the application has made room, in ms. */
const BUSY_MS = 250;

/** What it needs. */
export interface IntakeOptions {
  readonly env: Environment;
  readonly options: ConnectOptions;
  readonly context: CredentialContext;
  readonly teller: Teller;
  /** Sends a receipt; answers the offset that it told, or null when there is nobody to tell. */
  readonly sendReceipt: (offset: number) => number | null;
  /** Something that the state depends on has changed. */
  readonly onChange: () => void;
  /** A live alert does not check: give the connections up and ask again. */
  readonly onForged: () => void;
}

/** What becomes of messages. */
export interface Intake {
  readonly epoch: string | null;
  /** Everything up to it has been taken. */
  readonly accepted: number;
  /** Items that wait for the application. */
  readonly backlog: number;
  /** When the newest proof that was handled arrived, in monotonic ms; null: none since `reopened`. */
  readonly coveredAt: number | null;
  readonly gapOpen: boolean;
  readonly keysReady: boolean;
  /** Why something that should have been delivered was passed over; empty: nothing was. */
  readonly tainted: string;
  /** Reads the resume point. Never rejects. */
  load(): Promise<void>;
  /** A connection without an older one beside it was welcomed: what was proved before is over. */
  reopened(): void;
  /** A connection was welcomed: where it goes on, or cannot. */
  welcomed(welcome: WelcomeMessage): void;
  /** Takes an alert; false when there is no room. */
  accept(epoch: string, alert: ViewerAlert, characters: number): boolean;
  /** Takes a watermark; `heardAt`: how young it is, in monotonic ms. */
  mark(epoch: string, offset: number, at: number, heardAt: number): void;
  /** Something that should have been delivered will not be. */
  taint(why: string): void;
  /** Tells what has been handled, when there is somebody to tell it to. `leaving`: now, it is the last chance. */
  acknowledge(leaving?: boolean): void;
  /** No more connections. What waits is delivered still. */
  finish(): void;
  /** At once. */
  stop(): void;
}

/** Creates it, and begins to fetch the keys. */
export function createIntake(parts: IntakeOptions): Intake {
  const { env, options, context, teller } = parts;
  const seen = createSeen();
  const inbox = createInbox<Item>(handle);
  const keys = createKeyRing(env, context.ask, options.trust ?? 'server', parts.onChange);
  const receipts = createReceipts(env, parts.sendReceipt);
  const gaps = createGapFiller({
    env,
    ask: context.ask,
    zone: options.zone ?? null,
    minSeverity: options.minSeverity ?? null,
    bearer: async () => (options.credentials.kind === 'token' ? options.credentials.secret('connect', context) : null),
    deliver: deliverLate,
    onMalformed: () => teller.violation('shape', null),
    onDone: (outcome, alerts) => {
      tellGap({ outcome, missed, alerts });
      save();
    },
  });
  let position: Position | null = null;
  let coveredAt: number | null = null;
  let missed: Gap['missed'] = null;
  let tainted = '';
  let forged = { offset: -1, tries: 0 };

  function tellGap(gap: Gap): void {
    parts.onChange();
    void teller.tell('gap', gap);
  }

  /** The first welcome of all: what was before it is nobody's business. */
  function begin({ epoch, offset, recovered }: WelcomeMessage): void {
    position = { epoch, accepted: offset, handled: offset, at: 0 };
    receipts.restart(offset);
    coveredAt = recovered ? env.monotonic() : null;
    save();
  }
  /** The server cannot bring what we missed. */
  function lose({ epoch, offset }: WelcomeMessage, before: Position): void {
    // A gap that is still open is part of this one.
    // A head that went back is a history that was put back: its offsets say nothing, either.
    const anew = epoch !== before.epoch || offset < before.accepted || (gaps.open && missed === null);
    const after = gaps.open && missed !== null ? missed.after : before.accepted;
    missed = anew ? null : { after, upTo: offset };
    position = { epoch, accepted: offset, handled: offset, at: before.at };
    receipts.restart(offset);
    const from = before.at || env.now() - GAP_BLIND_MS;
    const since = Math.min(from, seen.oldestOpen() ?? from) - GAP_MARGIN_MS;
    gaps.fill(since, (alert) => anew || (alert.offset > after && alert.offset <= offset));
    tellGap({ outcome: 'pending', missed, alerts: 0 });
  }

  async function handle(item: Item): Promise<void> {
    if (teller.ended) return;
    if (item.kind === 'mark') {
      if (item.epoch !== position?.epoch) return;
      coveredAt = item.heardAt;
      reached(item.offset, item.at);
      return parts.onChange();
    }
    const { alert } = item;
    const verification = await keys.check(alert);
    if (verification === 'forged') {
      teller.violation('signature', alert.offset);
      return item.kind === 'late' ? passOver(item) : suspect(item);
    }
    const news = await deliver(alert, item.kind === 'late' ? 'gap' : 'live', verification === 'verified');
    if (item.kind === 'late') return item.done(news);
    if (item.epoch !== position?.epoch) return;
    reached(alert.offset, alert.updatedAt);
    receipts.handled(position.handled);
  }
  async function deliver(alert: ViewerAlert, source: 'live' | 'gap', verified: boolean): Promise<boolean> {
    if (teller.ended) return false;
    const kind = seen.classify(alert);
    teller.count(kind === 'old' ? 'duplicates' : 'delivered');
    if (kind === 'old') return false;
    await teller.tell(kind === 'first' ? 'alert' : 'update', alert, { source, verified });
    return true;
  }
  /** Through the inbox like all others, waiting for room in it. */
  async function deliverLate(alert: ViewerAlert): Promise<boolean> {
    const size = JSON.stringify(alert).length;
    for (;;) {
      const news = await new Promise<boolean | null>((done) => {
        if (!inbox.push({ kind: 'late', alert, done }, size)) done(null);
      });
      if (news !== null || teller.ended) return news === true;
      await new Promise<void>((resolve) => void env.after(BUSY_MS, resolve));
    }
  }
  /** Perhaps somebody is between us and the server: come back, ask for it again. */
  function suspect(item: Extract<Item, { kind: 'alert' }>): void {
    const { offset } = item.alert;
    if (position === null || item.epoch !== position.epoch) return;
    forged = { offset, tries: forged.offset === offset ? forged.tries + 1 : 1 };
    if (forged.tries >= FORGED_TRIES) return passOver(item);
    // What came over HTTP nobody sends again.
    inbox.keep(({ kind }) => kind === 'late');
    position.accepted = position.handled;
    parts.onForged();
  }
  /** It stays away for good; what comes behind it is delivered, but nobody may feel protected any more. */
  function passOver(item: Exclude<Item, { kind: 'mark' }>): void {
    if (item.kind === 'late') item.done(false);
    else if (item.epoch === position?.epoch) reached(item.alert.offset, 0);
    taint('forged');
  }
  function taint(why: string): void {
    tainted ||= why;
    parts.onChange();
  }

  function reached(offset: number, at: number): void {
    if (position === null) return;
    position.handled = Math.max(position.handled, offset);
    // Not the greatest: a clock that was wrong for a while would hide a gap.
    position.at = at || position.at;
    save();
  }
  function save(): void {
    // While a gap is open a reload has to find it again.
    if (options.resume === undefined || position === null || gaps.open) return;
    const { epoch, handled: offset, at } = position;
    new Promise((resolve) => resolve(options.resume?.save({ epoch, offset, at }))).catch((error: unknown) =>
      teller.error('resume', error),
    );
  }

  return {
    get epoch() {
      return position?.epoch ?? null;
    },
    get accepted() {
      return position?.accepted ?? 0;
    },
    get backlog() {
      return inbox.size;
    },
    get coveredAt() {
      return coveredAt;
    },
    get gapOpen() {
      return gaps.open;
    },
    get keysReady() {
      return keys.ready;
    },
    get tainted() {
      return tainted;
    },
    async load() {
      try {
        const point = readResumePoint(await options.resume?.load());
        if (point !== null) position = { ...point, accepted: point.offset, handled: point.offset };
      } catch (error) {
        teller.error('resume', error);
      }
    },
    reopened() {
      coveredAt = null;
    },
    welcomed(welcome) {
      if (position === null) begin(welcome);
      else if (!welcome.recovered) lose(welcome, position);
    },
    accept(epoch, alert, characters) {
      if (epoch !== position?.epoch || alert.offset <= position.accepted) {
        teller.count('duplicates');
        return true;
      }
      const taken = inbox.push({ kind: 'alert', epoch, alert }, characters);
      if (taken) position.accepted = alert.offset;
      return taken;
    },
    taint,
    mark(epoch, offset, at, heardAt) {
      if (epoch !== position?.epoch) return;
      position.accepted = Math.max(position.accepted, offset);
      const newest = inbox.last();
      // Of marks with nothing between them the last says it all.
      if (newest?.kind === 'mark' && newest.epoch === epoch) Object.assign(newest, { offset, at, heardAt });
      else inbox.push({ kind: 'mark', epoch, offset, at, heardAt }, 0);
    },
    acknowledge: (leaving) => receipts.handled(position?.handled ?? 0, leaving),
    finish() {
      receipts.stop();
      gaps.stop();
      if (keys.ready || inbox.idle) keys.stop();
    },
    // What waits is passed over: nothing is told any more.
    stop: keys.stop,
  };
}
