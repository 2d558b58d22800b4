/**
 * An agent: measures this machine every few seconds, keeps each frame on the disk, and delivers what waits, oldest first.
 *
 * Guarantees: a frame that was kept reaches the server at least once, in order, however often processes, networks and
 * brokers die, unless it has to go because more than `keep` wait (the oldest goes, counted) or the server will never take
 * it. One is on its way at a time, and at most {@link SENDS_PER_SECOND} begin in a second, so that a backlog is faster than
 * real time and no flood. A frame holds the moment of its measuring. Missed moments (a machine that slept) are not made up.
 * Failure: opening rejects with a DeviceError or a MeasureError; later trouble is told as news and ends nothing.
 */
import type { KeyObject } from 'node:crypto';
import { DeviceError } from '../device-error.ts';
import type { WaitReason } from '../device-state.ts';
import { createSigner, type Signer } from '../envelope.ts';
import { openReporter, type Reporter, type ReporterStatus } from '../reporter.ts';
import type { Sender } from '../sender.ts';
import type { TimeSource } from '../time-source.ts';
import { readTuning } from '../tuning.ts';
import { type AgentNews, type AgentTeller, startTeller } from './agent-news.ts';
import { createFrameSealer } from './frame-sealer.ts';
import type { Gpu } from './gpu.ts';
import { type Machine, MeasureError } from './machine.ts';
import { createPacedSender } from './paced-sender.ts';
import { createSampler, type OwnCost, type Sampler } from './sampler.ts';

/** What an agent is opened with. */
export interface AgentOptions {
  readonly id: string;
  /** Outbox, key and dead letters. */
  readonly folder: string;
  /** Closed with the agent. Its topic fits `sign`. */
  readonly sender: Sender;
  /** Null: frames without a signature. Else gives the key, from the agent's folder. */
  readonly sign: ((folder: string) => Promise<KeyObject>) | null;
  readonly intervalMs: number;
  /** Frames that wait at most. */
  readonly keep: number;
  readonly machine: Machine;
  readonly gpu: Gpu;
  readonly own: OwnCost;
  readonly time: TimeSource;
  /** In [0, 1). */
  readonly random: () => number;
  readonly tell: (news: AgentNews) => void;
}

/** How a single frame went. */
export type OneFrame =
  | { readonly outcome: 'delivered' }
  /** It is on the disk and goes out with the next run. */
  | { readonly outcome: 'waiting' | 'refused'; readonly reason: WaitReason | 'timeout' }
  | { readonly outcome: 'dead-letter'; readonly detail: string };

/** An open agent. */
export interface Agent {
  /** Measures and sends again and again, from now on. */
  start(): void;
  /** One frame; resolves once it is delivered, or cannot be for now. Rejects as opening does. */
  once(timeoutMs: number): Promise<OneFrame>;
  status(): ReporterStatus;
  /** Lets what is on its way end (3 s at most), keeps the rest on the disk. */
  stop(): Promise<void>;
}

/** So many tries begin in a second at most: less than the server lets one device do over HTTP. */
export const SENDS_PER_SECOND = 16;
/** The first sample is this long or an interval, whichever is shorter. */
const FIRST_SAMPLE_MS = 1000;
/** How long a delivery that works may go on when the agent is stopped. */
const FLUSH_MS = 1000;
/** Bytes of the outbox for each frame that may wait; one has about 330. */
export const FRAME_BYTES = 512;
const OUTBOX_LEAST_BYTES = 1_048_576;

/** The bounds of {@link AgentOptions.keep}. */
export const KEEP = { least: 1, most: 1_000_000, value: 20_000 } as const;

/** Opens an agent; it does nothing before it is started. */
export async function openAgent(options: AgentOptions): Promise<Agent> {
  const { id, folder, keep, sign, machine, gpu, own, time, random, tell } = options;
  const tuning = readTuning({
    inFlight: 1,
    outboxEnvelopes: keep,
    outboxBytes: Math.max(keep * FRAME_BYTES, OUTBOX_LEAST_BYTES),
  });
  const sender = createPacedSender(options.sender, 1000 / SENDS_PER_SECOND, time);
  const signer = async (place: string): Promise<Signer> =>
    sign === null ? createFrameSealer(id) : createSigner(id, await sign(place));
  const reporter = await openReporter({ id, profile: 'host', folder, sender, signer, tuning, time, random });
  try {
    const sampler = await createSampler({ machine, gpu, own, time });
    const { on, status } = reporter;
    const teller = startTeller({ on, queued: () => status().queued, time, tell });
    gpu.ask();
    return createAgent(options, reporter, sampler, teller);
  } catch (error) {
    await reporter.close();
    throw error;
  }
}

function createAgent(
  { intervalMs, gpu, time }: AgentOptions,
  reporter: Reporter<Signer>,
  sampler: Sampler,
  teller: AgentTeller,
): Agent {
  const firstMs = Math.min(FIRST_SAMPLE_MS, intervalMs);
  const frame = async (): Promise<string> => {
    const [id = ''] = await reporter.report([await sampler.sample()], false);
    gpu.ask();
    return id;
  };
  /** One frame; trouble is told. */
  const turn = async (): Promise<void> => {
    try {
      await frame();
      teller.kept();
    } catch (error) {
      if (error instanceof MeasureError) teller.trouble('not-measured', error.message);
      else if (error instanceof DeviceError) teller.trouble('not-kept', error.message);
      else throw error;
    }
  };
  const clockwork = createClockwork(turn, intervalMs, time);
  return {
    start: () => clockwork.start(firstMs),
    once: async (timeoutMs) => {
      await new Promise<void>((resolve) => void time.after(firstMs, resolve));
      return outcomeOf(reporter, await frame(), timeoutMs, time);
    },
    status: reporter.status,
    stop: async () => {
      await clockwork.stop();
      gpu.close();
      if (teller.delivering()) await reporter.flush(FLUSH_MS);
      await reporter.close();
    },
  };
}

interface Clockwork {
  start(firstMs: number): void;
  /** Resolves once no turn is running. */
  stop(): Promise<void>;
}

/** Turns at even distances, one at a time; those that were missed are left out. */
function createClockwork(turn: () => Promise<void>, intervalMs: number, time: TimeSource): Clockwork {
  let forget: () => void = () => undefined;
  let running: Promise<void> = Promise.resolve();
  let stopped = false;
  let due = 0;
  const plan = (): void => {
    if (stopped) return;
    const now = time.monotonic();
    forget = time.after(due - now, () => {
      running = turn().then(() => {
        due += intervalMs;
        if (due < time.monotonic()) due = time.monotonic() + intervalMs;
        plan();
      });
    });
  };
  return {
    start: (firstMs) => {
      due = time.monotonic() + firstMs;
      plan();
    },
    stop: async () => {
      stopped = true;
      forget();
      await running;
    },
  };
}

/** How the envelope `id` ends, or what stands in its way. */
function outcomeOf(
  { on, status }: Reporter<Signer>,
  id: string,
  timeoutMs: number,
  time: TimeSource,
): Promise<OneFrame> {
  return new Promise((resolve) => {
    const stops: (() => void)[] = [];
    const finish = (outcome: OneFrame): void => {
      for (const stop of stops) stop();
      resolve(outcome);
    };
    const look = (): void => {
      const { state } = status();
      if (state.state === 'waiting' || state.state === 'refused')
        finish({ outcome: state.state, reason: state.reason });
    };
    stops.push(
      time.after(timeoutMs, () => finish({ outcome: 'waiting', reason: 'timeout' })),
      on('delivered', (event) => void (event.id === id && finish({ outcome: 'delivered' }))),
      on('dead-letter', (event) => void (event.id === id && finish({ outcome: 'dead-letter', detail: event.detail }))),
      on('state', look),
    );
    look();
  });
}
