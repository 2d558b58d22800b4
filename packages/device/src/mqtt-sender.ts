/**
 * Messages over MQTT 3.1.1: one with QoS 1 on `devices/<id>/readings` for each envelope, or on `devices/<id>/metrics` for
 * each frame; PUBACK means taken.
 *
 * Guarantees: mqtts, or this machine, unless `allowInsecure`; connecting and publishing end within their time limits;
 * nothing is kept beside the outbox: each connection is a new session, and what was
 * not acknowledged when it ended is answered `connection-lost`. How many are on their way is the device's `inFlight`.
 * What PUBACK is worth is the broker's: our embedded one sends it after the commit, another one when it has the message.
 */
import { randomBytes } from 'node:crypto';
import { isIdentifier } from '@tocsin/protocol/identifiers';
import { DeviceError } from './device-error.ts';
import type { TlsFiles } from './http-sender.ts';
import { type MqttSession, openSession } from './mqtt-session.ts';
import type { Sender } from './sender.ts';
import { checkUrl } from './server-url.ts';
import { systemTime, type TimeSource } from './time-source.ts';
import type { Answer, FailureReason } from './verdict.ts';

/** How to reach the broker. */
export interface MqttSenderOptions {
  /** `mqtts://host:8883`; no credentials in it. Without a port: 8883, and 1883 for `mqtt://`. */
  readonly broker: string;
  /** The device's id: names the topic. */
  readonly id: string;
  /** For our embedded broker: any name and an API key, or the device's id and its access token. */
  readonly username?: string;
  /** Needs a user name. */
  readonly password?: string;
  /** Before `/<id>/readings`; default `devices`. */
  readonly topicPrefix?: string;
  /** What is sent: signed envelopes (the default), or frames of host metrics. */
  readonly topic?: 'readings' | 'metrics';
  /** As the broker knows the connection; default: the id and a random part, so that two of them live side by side. */
  readonly clientId?: string;
  readonly allowInsecure?: boolean;
  readonly tls?: TlsFiles;
  /** The longest that connecting, and a PUBACK, may take, ms; default 15,000. */
  readonly timeoutMs?: number;
  /** Whose `Date` tells the time, e.g. `https://tocsin.example/health/live`; without it the machine's clock counts. */
  readonly clockUrl?: string;
  readonly time?: TimeSource;
}

const TIMEOUT_MS = 15_000;
const KEEP_ALIVE_SECONDS = 30;
/** Longest user name, password and client id, characters. */
const CREDENTIAL_MOST = 8192;

/** A sender over MQTT. Throws `option-invalid` or `server-insecure`. */
export function createMqttSender(options: MqttSenderOptions): Sender {
  const { id, timeoutMs = TIMEOUT_MS, time = systemTime } = options;
  if (!isIdentifier(id)) throw new DeviceError('option-invalid', 'id must be 1 to 64 of A-Z a-z 0-9 . _ -');
  const connect = createConnector(options, timeoutMs, time);
  const topic = `${checkPrefix(options.topicPrefix ?? 'devices')}/${id}/${options.topic ?? 'readings'}`;
  const clock = createClockQuestion(options, timeoutMs, time);
  let session: MqttSession | null = null;
  let closed = false;
  /** The next session begins with the next message after the end of this one. */
  const current = (): MqttSession => {
    if (session !== null) return session;
    const begun = connect();
    session = begun;
    void begun.ended.then(() => {
      if (session === begun) session = null;
    });
    return begun;
  };
  return {
    send: async (sealed) => {
      if (closed) return answerOf('connection-lost');
      const using = current();
      const refused = await using.opened;
      return answerOf(refused ?? (await using.publish(topic, sealed)));
    },
    askTime: clock.ask,
    close: async () => {
      closed = true;
      clock.close();
      session?.end();
    },
  };
}

function answerOf(outcome: FailureReason | null): Answer {
  return outcome === null ? { kind: 'acknowledged' } : { kind: 'failed', reason: outcome };
}

function checkPrefix(prefix: string): string {
  if (/^[^/+#\0][^+#\0]{0,199}$/.test(prefix) && !prefix.endsWith('/')) return prefix;
  throw new DeviceError(
    'option-invalid',
    'topicPrefix must be 1 to 200 characters without + # and slashes at its ends',
  );
}

function createConnector(options: MqttSenderOptions, timeoutMs: number, time: TimeSource): () => MqttSession {
  const { id, username, password, clientId, allowInsecure = false, tls = {} } = options;
  const broker = checkUrl(options.broker, { option: 'broker', secure: 'mqtts:', plain: 'mqtt:', allowInsecure });
  for (const [name, text] of Object.entries({ username, password, clientId })) {
    if (text !== undefined && (text === '' || text.length > CREDENTIAL_MOST || text.includes('\0'))) {
      throw new DeviceError('option-invalid', `${name} must be 1 to ${CREDENTIAL_MOST} characters without a zero`);
    }
  }
  if (password !== undefined && username === undefined) {
    throw new DeviceError('option-invalid', 'password needs a username');
  }
  return () =>
    openSession({
      ...{ broker, tls, timeoutMs, time, keepAliveSeconds: KEEP_ALIVE_SECONDS },
      clientId: clientId ?? `${id}-${randomBytes(4).toString('hex')}`,
      ...(username === undefined ? {} : { username }),
      ...(password === undefined ? {} : { password }),
    });
}

/** Asks `clockUrl` for its `Date`; what that takes is loaded only then. */
function createClockQuestion(
  { clockUrl, tls = {} }: MqttSenderOptions,
  timeoutMs: number,
  time: TimeSource,
): { readonly ask: Sender['askTime']; readonly close: () => void } {
  if (clockUrl === undefined) return { ask: async () => null, close: () => undefined };
  // No credential travels with the question, so plain http is allowed; who can forge it can also stop the messages.
  const url = checkUrl(clockUrl, { option: 'clockUrl', secure: 'https:', plain: 'http:', allowInsecure: true });
  const question = import('./time-question.ts').then((loaded) =>
    loaded.createTimeQuestion({ url, tls, timeoutMs, time }),
  );
  return {
    ask: async () => (await question).ask(),
    close: () => void question.then(({ close }) => close()),
  };
}
