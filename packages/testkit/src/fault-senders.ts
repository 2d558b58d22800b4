/**
 * Senders of the fault matrix: a fleet that reports steadily to two gateways, as devices do.
 *
 * Each sender works through its devices; an envelope is signed again with the same id until it is answered with 202, or
 * with 409 `replay` for what an unanswered try has made durable. After a lost connection, a timeout or 503 the other
 * gateway is next. So in the end every envelope was accepted exactly once, and counts can be compared.
 */
import { randomInt } from 'node:crypto';
import { Agent } from 'node:http';
import { setTimeout as pause } from 'node:timers/promises';
import { call, type ScriptedDevice } from './device.ts';
import { CREDENTIALS } from './server-process.ts';

/** What they counted. */
export interface SenderCounts {
  /** Envelopes, each with one reading. */
  accepted: number;
  /** Posts that got no answer or 503 and were sent again. */
  retries: number;
  /** Answers that no sender should ever get. */
  readonly strange: Record<string, number>;
  /** When something was accepted, by `performance.now()`, and which gateway said so. */
  readonly acceptedAt: { readonly at: number; readonly base: string }[];
}

/** Senders at work. */
export interface Senders {
  readonly counts: SenderCounts;
  /** Every device reports a trigger of this moment next; resolves with the moment once all are accepted. */
  quake(): { readonly at: number; readonly accepted: Promise<void> };
  /** Sends what was begun to its end; resolves once it is accepted. */
  finish(): Promise<void>;
}

const SENDERS = 20;
/** Between two envelopes of a sender, ms: about 150 envelopes/s in all. */
const PACE_MS = 110;
/** A device gives up an answer after this. */
const TIMEOUT_MS = 3000;
/** Readings older than `LIVE_READING_SECONDS`, the default: stored, and no trigger. */
const HISTORIC_MS = 61_000;

interface Quake {
  readonly at: number;
  /** Devices that have not reported it yet. */
  readonly missing: Set<ScriptedDevice>;
  readonly done: () => void;
}

/** Starts them; half prefer the first gateway, half the second. */
export function startSenders(bases: readonly string[], fleet: readonly ScriptedDevice[]): Senders {
  const counts: SenderCounts = { accepted: 0, retries: 0, strange: {}, acceptedAt: [] };
  const agent = new Agent({ keepAlive: true, maxSockets: SENDERS * 2 });
  const quakes: Quake[] = [];
  let over = false;
  let serial = 0;
  const each = Math.ceil(fleet.length / SENDERS);
  const work = async (sender: number): Promise<void> => {
    const devices = fleet.slice(sender * each, (sender + 1) * each);
    const place = { turn: sender };
    const pending = (): Quake | undefined =>
      quakes.find(({ missing }) => devices.some((device) => missing.has(device)));
    for (let i = 0; !over || pending() !== undefined; i += 1) {
      const quake = pending();
      const device = devices.find((one) => quake?.missing.has(one) ?? false) ?? devices[i % devices.length];
      if (device === undefined) return;
      serial += 1;
      const at = quake?.at ?? Date.now() - HISTORIC_MS;
      await sendOne({ bases, place, agent, counts, device, id: `e${serial}`, at });
      if (quake?.missing.delete(device) === true && quake.missing.size === 0) quake.done();
      if (quake === undefined) await pause(PACE_MS / 2 + randomInt(PACE_MS));
    }
  };
  const working = Promise.all(Array.from({ length: SENDERS }, (_, sender) => work(sender)));
  // Whoever awaits `finish` hears of a failure.
  working.catch(() => undefined);
  return {
    counts,
    quake: () => {
      const at = Date.now();
      const accepted = new Promise<void>((done) => quakes.push({ at, missing: new Set(fleet), done }));
      return { at, accepted };
    },
    finish: async () => {
      over = true;
      await working;
      agent.destroy();
    },
  };
}

interface Sending {
  readonly bases: readonly string[];
  /** Which gateway is next; stays with the one that answered. */
  readonly place: { turn: number };
  readonly agent: Agent;
  readonly counts: SenderCounts;
  readonly device: ScriptedDevice;
  readonly id: string;
  readonly at: number;
}

async function sendOne({ bases, place, agent, counts, device, id, at }: Sending): Promise<void> {
  for (;;) {
    const base = bases[place.turn % bases.length] ?? '';
    const answer = await call(`${base}/v1/readings`, {
      method: 'POST',
      headers: { 'content-type': 'application/jose', 'x-api-key': CREDENTIALS.apiKey },
      body: device.seal(id, { readings: [{ at, value: 7 }] }),
      agent,
      timeoutMs: TIMEOUT_MS,
    }).catch(() => null);
    if (answer?.status === 202 || (answer?.status === 409 && answer.body?.['code'] === 'replay')) {
      counts.accepted += 1;
      counts.acceptedAt.push({ at: performance.now(), base });
      return;
    }
    if (answer !== null && answer.status !== 503) {
      const name = `${answer.status} ${String(answer.body?.['code'])}`;
      counts.strange[name] = (counts.strange[name] ?? 0) + 1;
    }
    counts.retries += 1;
    place.turn += 1;
    await pause(20 + randomInt(40));
  }
}

/** The longest time between two acceptances by `bases`, the second of them after `from`, ms. */
export function longestGap(counts: SenderCounts, bases: readonly string[], from: number): number {
  const times = counts.acceptedAt.filter(({ base }) => bases.includes(base)).map(({ at }) => at);
  const sorted = times.toSorted((a, b) => a - b);
  return Math.max(0, ...sorted.map((time, i) => (time > from ? time - (sorted[i - 1] ?? from) : 0)));
}
