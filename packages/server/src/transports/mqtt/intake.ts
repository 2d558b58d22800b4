/**
 * Messages of MQTT into ingest: which kind they are by their topic, what became of them as a verdict.
 *
 * Guarantees: never rejects. What was refused is counted by its code, said in a line a second for each code (places and
 * rules, never the payload) and acknowledged; what could not be decided now is to come again. Messages of one device enter
 * the line for the log in the order of their arrival, whatever their topics; when one is to come again, so are those that
 * already wait behind it, so that they do not overtake it (from the line on, ingest sees to that).
 * Bounds: {@link MOST_WAITING} messages and {@link MOST_WAITING_BYTES} wait for others of their device; above that they are to
 * come again.
 */
import type { ErrorCode, Refusal } from '@tocsin/protocol/errors';
import { isIdentifier } from '@tocsin/protocol/identifiers';
import type { ThrottledLog } from '../../ops/throttled-log.ts';
import { continueTrace } from '../../ops/tracing.ts';
import type { MqttMessage, MqttVerdict, RefusedUnread, TakeMqttMessage } from './message.ts';
import { type DeviceTopic, deviceTopic, fitsNeither } from './topic.ts';

/** What ingest wants to know of a message. */
export interface ArrivedMessage {
  /** A character for each byte (latin1). */
  readonly body: string;
  /** The device that the topic names. */
  readonly topicDevice: string;
  readonly traceparent: string;
  readonly apiKey: undefined;
  /** To be called as soon as nothing that comes after it can overtake it. */
  readonly entered: () => void;
}

/** Takes one message in (see `ingest/ingest.ts`). */
export type TakeArrived = (
  arrived: ArrivedMessage,
) => Promise<{ readonly accepted: true } | { readonly accepted: false; readonly refusal: Refusal }>;

/** What it needs. */
export interface MqttIntakeOptions {
  /** Topic filters, checked at the start (`topic.ts`); no topic fits both. */
  readonly frameTopic: string;
  readonly envelopeTopic: string;
  readonly takeFrame: TakeArrived;
  readonly takeEnvelope: TakeArrived;
  /** Counts a refusal that was made here; ingest counts its own. */
  readonly refused: (reason: ErrorCode) => void;
  /** Where refusals are told: a line in a second for each code, those of {@link RefusedUnread} among them. */
  readonly lines: ThrottledLog;
}

/** Messages that wait for others of their device at most. */
export const MOST_WAITING = 10_000;
/** And their bytes. */
export const MOST_WAITING_BYTES = 33_554_432;

const RETRY_AFTER_MS = 1000;
/** After a failure that nobody foresaw. */
const FAILED_RETRY_MS = 5000;
const ACKNOWLEDGE: MqttVerdict = { kind: 'acknowledge' };
/** Nothing was decided: the same message may be taken in later. */
const LATER: ReadonlySet<ErrorCode> = new Set(['overloaded', 'store-unavailable', 'starting', 'draining', 'internal']);
/** What is said of these names settings and rules, and nothing that was sent. */
const OWN_WORDS: ReadonlySet<ErrorCode> = new Set(['not-found', 'malformed-parameter', 'device-cap']);
/** A member's name that may stand in the log; another one came from the payload as likely as not. */
const PLAIN_NAME = /^[a-z][a-z0-9_]{0,31}$/;
const MOST_VIOLATIONS = 20;

type Kind = 'frame' | 'envelope';

/** Builds the intake. */
export function createMqttIntake(options: MqttIntakeOptions): TakeMqttMessage {
  const kinds: readonly (readonly [Kind, DeviceTopic, TakeArrived])[] = [
    ['frame', deviceTopic(options.frameTopic), options.takeFrame],
    ['envelope', deviceTopic(options.envelopeTopic), options.takeEnvelope],
  ];
  const { lines } = options;
  const inTurn = createTurns();
  const nowhere = fitsNeither(options.frameTopic, options.envelopeTopic);
  const here = (refusal: Refusal): MqttVerdict => {
    options.refused(refusal.code);
    tell(lines, refusal, {});
    return verdictOf(refusal);
  };
  const take = async (kind: Kind, arrived: ArrivedMessage, work: TakeArrived): Promise<MqttVerdict> => {
    try {
      const answer = await work(arrived);
      if (answer.accepted) return ACKNOWLEDGE;
      // The second delivery of a frame is how MQTT works; that of an envelope may be somebody's doing.
      if (kind === 'envelope' || answer.refusal.code !== 'replay')
        tell(lines, answer.refusal, { kind, deviceId: arrived.topicDevice });
      return verdictOf(answer.refusal);
    } catch (error) {
      options.refused('internal');
      lines.error('internal', { err: error, kind, deviceId: arrived.topicDevice }, 'a message of MQTT failed');
      return { kind: 'later', retryAfterMs: FAILED_RETRY_MS };
    }
  };
  return async (message) => {
    const found = kindOf(kinds, message.topic);
    if (found === null) return here({ code: 'not-found', detail: nowhere });
    const { kind, topicDevice, work } = found;
    if (!isIdentifier(topicDevice))
      return here({
        code: 'malformed-parameter',
        detail: 'The device in the topic must be 1 to 64 of A-Z a-z 0-9 . _ -',
      });
    const turn = inTurn(topicDevice, message.payload.length, (entered) =>
      take(kind, arrivedOf(message, topicDevice, entered), work),
    );
    return turn ?? here({ code: 'overloaded', detail: 'Too many messages wait', retryAfterMs: RETRY_AFTER_MS });
  };
}

/** Counts and tells what never came to the intake, as the intake does. */
export function refusedUnread({
  refused,
  lines,
  frameTopic,
  envelopeTopic,
}: Pick<MqttIntakeOptions, 'refused' | 'lines' | 'frameTopic' | 'envelopeTopic'>): RefusedUnread {
  const nowhere = fitsNeither(frameTopic, envelopeTopic);
  return (reason, deviceId) => {
    refused(reason);
    tell(
      lines,
      { code: reason, detail: reason === 'not-found' ? nowhere : '' },
      isIdentifier(deviceId) ? { deviceId } : {},
    );
  };
}

function kindOf(
  kinds: readonly (readonly [Kind, DeviceTopic, TakeArrived])[],
  topic: string,
): { readonly kind: Kind; readonly topicDevice: string; readonly work: TakeArrived } | null {
  for (const [kind, filter, work] of kinds) {
    const topicDevice = filter.deviceOf(topic);
    if (topicDevice !== null) return { kind, topicDevice, work };
  }
  return null;
}

function arrivedOf({ payload, traceparent }: MqttMessage, topicDevice: string, entered: () => void): ArrivedMessage {
  return {
    body: payload.toString('latin1'),
    topicDevice,
    traceparent: continueTrace(traceparent ?? undefined),
    apiKey: undefined,
    entered,
  };
}

function verdictOf({ code, retryAfterMs = RETRY_AFTER_MS }: Refusal): MqttVerdict {
  return LATER.has(code) ? { kind: 'later', retryAfterMs } : ACKNOWLEDGE;
}

function tell(
  lines: ThrottledLog,
  { code, detail, errors = [] }: Refusal,
  about: { readonly kind?: Kind; readonly deviceId?: string },
): void {
  const violations = errors.slice(0, MOST_VIOLATIONS).map((wrong) => `${plain(wrong.pointer)} ${wrong.detail}`);
  const rule = OWN_WORDS.has(code) && detail !== '' ? { rule: detail } : {};
  const fields = { transport: 'mqtt', ...about, ...rule, ...(violations.length === 0 ? {} : { violations }) };
  lines.warn(code, fields, 'message refused');
}

/** A pointer with whatever is no plain name, and so may be anybody's text, left out. */
function plain(pointer: string): string {
  return pointer
    .split('/')
    .map((part) => (part === '' || /^\d{1,4}$/.test(part) || PLAIN_NAME.test(part) ? part : '…'))
    .join('/');
}

/** Work that says when the next of its device may begin: as soon as it has entered, else when it has its verdict. */
type Work = (entered: () => void) => Promise<MqttVerdict>;

/** Begins work of one device in turn. Null: too much waits already. */
type InTurn = (deviceId: string, bytes: number, work: Work) => Promise<MqttVerdict> | null;

function createTurns(): InTurn {
  /** By device: how the newest came out, or null as soon as it has entered. */
  const newest = new Map<string, Promise<MqttVerdict | null>>();
  let waiting = 0;
  let waitingBytes = 0;
  return (deviceId, bytes, work) => {
    const before = newest.get(deviceId);
    if (before !== undefined && (waiting >= MOST_WAITING || waitingBytes + bytes > MOST_WAITING_BYTES)) return null;
    let free!: (verdict: MqttVerdict | null) => void;
    const mine = new Promise<MqttVerdict | null>((resolve) => {
      free = resolve;
    });
    newest.set(deviceId, mine);
    const entered = (): void => free(null);
    const verdict = before === undefined ? work(entered) : after(before, bytes, () => work(entered));
    void verdict.then(free);
    void mine.then(() => newest.get(deviceId) === mine && newest.delete(deviceId));
    return verdict;
  };

  async function after(
    before: Promise<MqttVerdict | null>,
    bytes: number,
    work: () => Promise<MqttVerdict>,
  ): Promise<MqttVerdict> {
    waiting += 1;
    waitingBytes += bytes;
    const verdict = await before;
    waiting -= 1;
    waitingBytes -= bytes;
    return verdict?.kind === 'later' ? verdict : work();
  }
}
