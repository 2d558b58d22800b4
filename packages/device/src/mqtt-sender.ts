/**
 * Envelopes over MQTT 3.1.1: one message with QoS 1 on `devices/<id>/readings` for each; PUBACK means taken. The only
 * module that loads the library `mqtt`.
 *
 * Guarantees: mqtts, or this machine, unless `allowInsecure`; connecting and publishing end within their time limits (some
 * calls of the library never settle); nothing is kept beside the outbox: each connection is a new session, and what was
 * not acknowledged when it ended is answered `connection-lost`. How many are on their way is the device's `inFlight`.
 * What PUBACK is worth is the broker's: our embedded one sends it after the commit, another one when it has the message.
 */
import { randomBytes } from 'node:crypto';
import { Agent } from 'node:http';
import { Agent as SecureAgent } from 'node:https';
import { connect, type IClientOptions, type MqttClient } from 'mqtt';
import { isIdentifier } from '@tocsin/protocol/identifiers';
import { DeviceError, systemCode } from './device-error.ts';
import { exchange, failureOf } from './http-exchange.ts';
import { sampleOf, type TlsFiles } from './http-sender.ts';
import type { Sender } from './sender.ts';
import { checkUrl } from './server-url.ts';
import { systemTime, type TimeSource } from './time-source.ts';
import type { Answer, FailureReason } from './verdict.ts';

/** How to reach the broker. */
export interface MqttSenderOptions {
  /** `mqtts://host:8883`; no credentials in it. */
  readonly broker: string;
  /** The device's id: names the topic. */
  readonly id: string;
  /** For our embedded broker: any name and an API key, or the device's id and its access token. */
  readonly username?: string;
  readonly password?: string;
  /** Before `/<id>/readings`; default `devices`. */
  readonly topicPrefix?: string;
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
const LISTENERS_MOST = 128;
/** CONNACK of MQTT 3.1.1, table 3.1: 3 is a broker that is not ready; the others do not mend by themselves. */
const CONNACK_UNAVAILABLE = 3;

type Link = { readonly client: MqttClient } | { readonly failed: FailureReason };

/** A session that begins, or has begun. */
interface Opening {
  readonly link: Promise<Link>;
  /** Ends it at once; what waits for it, or for a PUBACK, answers `connection-lost`. */
  end(): void;
}

/** A sender over MQTT. Throws `option-invalid` or `server-insecure`. */
export function createMqttSender(options: MqttSenderOptions): Sender {
  const { id, allowInsecure = false, timeoutMs = TIMEOUT_MS, time = systemTime } = options;
  if (!isIdentifier(id)) throw new DeviceError('option-invalid', 'id must be 1 to 64 of A-Z a-z 0-9 . _ -');
  const broker = checkUrl(options.broker, { option: 'broker', secure: 'mqtts:', plain: 'mqtt:', allowInsecure });
  const topic = `${checkPrefix(options.topicPrefix ?? 'devices')}/${id}/readings`;
  const clock = createTimeQuestion(options, timeoutMs, time);
  let link: Opening | null = null;
  let closed = false;
  /** Ends a session; the next one begins with the next message. */
  const drop = (opening: Opening): void => {
    if (link === opening) link = null;
    opening.end();
  };
  const linked = (): Opening => {
    if (link !== null) return link;
    const opening = openLink(broker, options, timeoutMs, time);
    link = opening;
    void opening.link.then((opened) => {
      if ('failed' in opened) drop(opening);
      else opened.client.once('close', () => drop(opening));
    });
    return opening;
  };
  return {
    send: async (sealed) => {
      if (closed) return failed('connection-lost');
      const opening = linked();
      const opened = await opening.link;
      if ('failed' in opened) return failed(opened.failed);
      const answer = await publish(opened.client, topic, sealed, timeoutMs, time);
      if (answer.kind === 'failed') drop(opening);
      return answer;
    },
    askTime: clock.ask,
    close: async () => {
      closed = true;
      clock.close();
      if (link !== null) drop(link);
    },
  };
}

function failed(reason: FailureReason): Answer {
  return { kind: 'failed', reason };
}

function checkPrefix(prefix: string): string {
  if (/^[^/+#\0][^+#\0]{0,199}$/.test(prefix) && !prefix.endsWith('/')) return prefix;
  throw new DeviceError(
    'option-invalid',
    'topicPrefix must be 1 to 200 characters without + # and slashes at its ends',
  );
}

/** A new session; settles within the time limit. */
function openLink(broker: URL, options: MqttSenderOptions, timeoutMs: number, time: TimeSource): Opening {
  const { id, username, password, tls = {} } = options;
  const settings: IClientOptions = {
    ...tls,
    clientId: `${id}-${randomBytes(4).toString('hex')}`,
    clean: true,
    protocolVersion: 4,
    keepalive: KEEP_ALIVE_SECONDS,
    reconnectPeriod: 0,
    // Ours is the limit; the library only says "close" at its own.
    connectTimeout: 2 * timeoutMs,
    resubscribe: false,
    timerVariant: 'native',
    ...(username === undefined ? {} : { username }),
    ...(password === undefined ? {} : { password }),
  };
  const client = connect(broker.href, settings);
  // One listener for each message on its way.
  client.setMaxListeners(LISTENERS_MOST);
  const link = new Promise<Link>((resolve) => {
    const finish = (outcome: Link): void => {
      forget();
      resolve(outcome);
    };
    const forget = time.after(timeoutMs, () => finish({ failed: 'timeout' }));
    client.once('connect', () => finish({ client }));
    // Stays: a later error without a listener would end the process; `close` follows and says what it means.
    client.on('error', (error) => finish({ failed: refusalOf(error) }));
    client.once('close', () => finish({ failed: 'connection-lost' }));
  });
  return { link, end: () => void client.end(true) };
}

function refusalOf(error: Error): FailureReason {
  const { code } = error as { readonly code?: unknown };
  if (typeof code !== 'number') return failureOf(systemCode(error));
  return code === CONNACK_UNAVAILABLE ? 'connection-refused' : 'broker-refused';
}

function publish(
  client: MqttClient,
  topic: string,
  text: string,
  timeoutMs: number,
  time: TimeSource,
): Promise<Answer> {
  return new Promise((resolve) => {
    const finish = (answer: Answer): void => {
      forget();
      client.off('close', lost);
      resolve(answer);
    };
    const lost = (): void => finish(failed('connection-lost'));
    const forget = time.after(timeoutMs, () => finish(failed('timeout')));
    client.once('close', lost);
    client.publish(topic, text, { qos: 1 }, (error) => {
      finish(error === undefined || error === null ? { kind: 'acknowledged' } : failed('connection-lost'));
    });
  });
}

/** Asks `clockUrl` for its `Date`. */
function createTimeQuestion(
  { clockUrl, tls = {} }: MqttSenderOptions,
  timeoutMs: number,
  time: TimeSource,
): { readonly ask: Sender['askTime']; readonly close: () => void } {
  if (clockUrl === undefined) return { ask: async () => null, close: () => undefined };
  // No credential travels with the question, so plain http is allowed; who can forge it can also stop the messages.
  const url = checkUrl(clockUrl, { option: 'clockUrl', secure: 'https:', plain: 'http:', allowInsecure: true });
  const agent = url.protocol === 'https:' ? new SecureAgent(tls) : new Agent();
  return {
    ask: async () => sampleOf(await exchange({ url, method: 'GET', headers: {}, body: '', agent, timeoutMs, time })),
    close: () => agent.destroy(),
  };
}
