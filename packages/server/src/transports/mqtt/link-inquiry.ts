/**
 * Asks the broker what it is: the retained message of `$SYS/broker/version`, which mosquitto and some others have.
 *
 * Guarantees: a connection of its own, with a session that ends with it. So nothing of `$SYS` is ever in the sessions that
 * bring our messages, nor reaches `take`; and a broker that ends a connection for this question (AWS IoT does) ends only this one.
 * Bounds: `withinMs` for everything; a message over {@link BYTES_MOST} is none.
 * Failure: never rejects. No answer, for whatever reason, is null.
 */
import { MqttClient } from 'mqtt';
import { timeLimit } from '../../lib/time-limit.ts';
import { createFrameFilter } from './link-frames.ts';
import { type LinkTarget, loginOf, openStream } from './link-stream.ts';

/** How to ask. */
export interface Inquiry {
  readonly target: LinkTarget;
  readonly clientId: string;
  readonly withinMs: number;
  readonly signal: AbortSignal;
}

const TOPIC = '$SYS/broker/version';
/** Longest packet. */
const BYTES_MOST = 1024;
/** Only brokers of MQTT 5 share subscriptions in a way that we use. */
const VERSION = 5;

/** The broker's version in its own words, e.g. `mosquitto version 2.0.11`; null: it does not say. */
export async function askVersion(inquiry: Inquiry): Promise<string | null> {
  const limit = timeLimit(inquiry.signal, inquiry.withinMs);
  try {
    return await ask(inquiry, limit.signal);
  } catch {
    return null;
  } finally {
    limit.clear();
  }
}

async function ask({ target, clientId, withinMs }: Inquiry, until: AbortSignal): Promise<string | null> {
  const stream = await openStream(target, createFrameFilter(BYTES_MOST, VERSION), withinMs, until);
  const client = new MqttClient(() => stream, {
    clientId,
    ...loginOf(target),
    protocolVersion: VERSION,
    clean: true,
    reconnectPeriod: 0,
    connectTimeout: 2 * withinMs,
    resubscribe: false,
    timerVariant: 'native',
  });
  const version = await answer(client, until);
  const gone = new Promise<void>((resolve) => {
    stream.once('close', resolve);
    until.addEventListener('abort', () => resolve(), { once: true });
    if (until.aborted || stream.destroyed) resolve();
  });
  client.end(false);
  await gone;
  client.end(true);
  stream.destroy();
  return version;
}

function answer(client: MqttClient, until: AbortSignal): Promise<string | null> {
  return new Promise((resolve) => {
    const none = (): void => resolve(null);
    client.on('error', none).on('close', none).on('disconnect', none);
    client.on('message', (topic, payload) => {
      if (topic === TOPIC && payload.length > 0) resolve(payload.toString('utf8'));
    });
    client.once('connect', () => {
      client.subscribe(TOPIC, { qos: 0 }, (error) => {
        if (error !== null && error !== undefined) none();
      });
    });
    until.addEventListener('abort', none, { once: true });
    if (until.aborted) none();
  });
}
