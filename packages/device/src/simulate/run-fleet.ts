/**
 * Runs a fleet: signs each envelope when it is due, sends it, and counts what comes back. The load generator of
 * `tocsin simulate`, of the demo and of the benchmarks.
 *
 * Guarantees: an open loop (`arrivals.ts`); latency counts from the moment an envelope was due, also when this process
 * was late or every connection was busy; every envelope that was due is in the report, once. Bounded: beyond
 * `mostOutstanding`, and `timeoutMs` after the end of the schedule, what is due or still waits is counted as unsent.
 * Failure: never rejects for what a server does; `ended` says when nobody listened for 5 s.
 */
import {
  type Arrival,
  type ArrivalSource,
  baseArrivals,
  earthquakeArrivals,
  mergeArrivals,
  waveformArrivals,
} from './arrivals.ts';
import { earthquakeOf, type EarthquakePlan, originOf } from './earthquake.ts';
import type { FleetOptions } from './fleet.ts';
import { createTally, type FleetReport } from './fleet-report.ts';
import { createHistogram } from './histogram.ts';
import { createHttpPool, type HttpOutcome, type HttpPool } from './http-pool.ts';
import { createOutgoing, type DueEnvelope, type Outgoing, type OutgoingSource } from './outgoing.ts';
import { createRandom, type Random } from './random.ts';
import { createFleetSigners, type FleetSigner } from './signers.ts';
import { PACKET_MS } from './waveform.ts';

/** How far a run is. */
export interface FleetProgress {
  readonly elapsedMs: number;
  readonly sent: number;
  readonly accepted: number;
  readonly refused: number;
  readonly unsent: number;
  readonly outstanding: number;
}

/** What a caller may watch and do. */
export interface FleetHooks {
  /** About four times a second. */
  readonly onProgress?: (progress: FleetProgress) => void;
  /** Ends the run in order: nothing more is sent, answers are waited for. */
  readonly signal?: AbortSignal;
}

/** Envelopes taken up in one turn of the event loop, so that answers are read in time also when it is behind. */
const TURN = 32;
const PROGRESS_MS = 250;
const UNREACHABLE_MS = 5000;
/** A sensor needs so long to see and send a P wave, ms: at least, and by chance on top. */
const SENSOR_MS = [80, 220] as const;

/** Runs it. */
export async function runFleet(options: FleetOptions, hooks: FleetHooks = {}): Promise<FleetReport> {
  const pool = createHttpPool(options);
  const run = new Run(options, pool, hooks.signal);
  const progress = setInterval(() => hooks.onProgress?.(run.progress()), PROGRESS_MS);
  try {
    const report = await run.whole();
    hooks.onProgress?.(run.progress());
    return report;
  } finally {
    clearInterval(progress);
    pool.close();
  }
}

type SentOutcome = Exclude<HttpOutcome, { readonly kind: 'unsent' }>;

class Run {
  readonly #options: FleetOptions;
  readonly #pool: HttpPool;
  readonly #signal: AbortSignal | undefined;
  readonly #random: Random;
  readonly #signers: readonly FleetSigner[];
  readonly #outgoing: OutgoingSource;
  readonly #arrivals: ArrivalSource;
  readonly #tally = createTally();
  readonly #lateness = createHistogram();
  readonly #host: string;
  readonly #startedAt: number;
  readonly #began: number;
  readonly #endMs: number;
  readonly #counts = { planned: 0, unsent: 0, accepted: 0, acceptedReadings: 0, uncertainReadings: 0 };
  #sent = 0;
  #refused = 0;
  #mostOutstanding = 0;
  #ended: FleetReport['ended'] = 'done';

  constructor(options: FleetOptions, pool: HttpPool, signal: AbortSignal | undefined) {
    this.#options = options;
    this.#pool = pool;
    this.#signal = signal;
    this.#random = createRandom(`${options.seed}/readings`);
    this.#signers = createFleetSigners(options, this.#random);
    this.#outgoing = createOutgoing(options, this.#signers, this.#random);
    this.#arrivals = this.#plan();
    this.#endMs = options.seconds === null ? Infinity : options.seconds * 1000;
    this.#host = new URL(options.origin).host;
    this.#startedAt = Date.now();
    this.#began = performance.now();
  }

  #plan(): ArrivalSource {
    const { seed, ratePerSecond, arrival, earthquakes } = this.#options;
    const waveforms = this.#signers.flatMap(({ waveform }, i) => (waveform ? [i] : []));
    const spoken = waveforms.length === this.#signers.length ? 0 : ratePerSecond;
    return mergeArrivals([
      baseArrivals(spoken, arrival, createRandom(`${seed}/arrivals`)),
      waveformArrivals(waveforms, PACKET_MS),
      ...(earthquakes === null
        ? []
        : [
            earthquakeArrivals(
              (n) => originOf(earthquakes, n),
              (n) => this.#shake(earthquakes, n),
            ),
          ]),
    ]);
  }

  /** Earthquake `n` begins: stations with waveforms will shake, of the others the triggers are planned. */
  #shake(plan: EarthquakePlan, n: number): Arrival[] {
    const earthquake = earthquakeOf(plan, n);
    const arrivals: Arrival[] = [];
    for (const [device, signer] of this.#signers.entries()) {
      if (signer.profile !== 'seismic') continue;
      const felt = signer.shake(earthquake);
      if (felt === null || signer.waveform) continue;
      const due = felt.pMs + SENSOR_MS[0] + SENSOR_MS[1] * this.#random.uniform();
      arrivals.push({ kind: 'earthquake', due, device, felt });
    }
    return arrivals;
  }

  async whole(): Promise<FleetReport> {
    const cpu = process.cpuUsage();
    await this.#sendAll();
    const seconds = this.#now() / 1000;
    await this.#drain();
    const { user, system } = process.cpuUsage(cpu);
    return {
      ...this.#counts,
      startedAt: this.#startedAt,
      seconds,
      rows: this.#tally.rows(),
      lateness: this.#lateness.record(),
      cpuSeconds: (user + system) / 1e6,
      processes: 1,
      mostOutstanding: this.#mostOutstanding,
      ended: this.#ended,
      connectionError: this.#ended === 'unreachable' ? this.#pool.lastError() : '',
    };
  }

  progress(): FleetProgress {
    const { accepted, unsent } = this.#counts;
    const outstanding = this.#pool.outstanding();
    return { elapsedMs: this.#now(), sent: this.#sent, accepted, refused: this.#refused, unsent, outstanding };
  }

  #now(): number {
    return performance.now() - this.#began;
  }

  /** Takes up what is due until the end of the schedule. */
  #sendAll(): Promise<void> {
    return new Promise((resolve, reject) => {
      const turn = (): void => {
        try {
          const wait = this.#turn();
          if (wait === null) resolve();
          else if (wait <= 0) setImmediate(turn);
          else setTimeout(turn, Math.min(wait, PROGRESS_MS));
        } catch (error) {
          reject(error instanceof Error ? error : new Error(String(error)));
        }
      };
      turn();
    });
  }

  /** One turn; answers ms until the next arrival, null at the end. */
  #turn(): number | null {
    for (let taken = 0; ; taken += 1) {
      if (this.#isOver()) return null;
      const arrival = this.#arrivals.peek();
      if (arrival === null || arrival.due >= this.#endMs) return null;
      const now = this.#now();
      if (arrival.due > now) return arrival.due - now;
      if (taken >= TURN) return 0;
      this.#arrivals.advance();
      if (arrival.kind !== 'origin') this.#take(arrival, now);
    }
  }

  #isOver(): boolean {
    if (this.#signal?.aborted === true) this.#ended = 'stopped';
    else if (this.#isDown()) this.#ended = 'unreachable';
    return this.#ended !== 'done';
  }

  #isDown(): boolean {
    const down = this.#pool.downSince();
    return down !== null && performance.now() - down > UNREACHABLE_MS;
  }

  #take(arrival: DueEnvelope, now: number): void {
    this.#counts.planned += 1;
    const outstanding = this.#pool.outstanding();
    this.#mostOutstanding = Math.max(this.#mostOutstanding, outstanding);
    const tooLate = now > this.#endMs + this.#options.timeoutMs;
    if (tooLate || outstanding >= this.#options.mostOutstanding) {
      this.#counts.unsent += 1;
      return;
    }
    this.#lateness.add(now - arrival.due);
    let outgoing: Outgoing | null = null;
    // Signed when a connection is free, so that no envelope grows old in the line; its latency counts from the due time.
    const make = (): string => {
      outgoing = this.#outgoing.next(arrival, { startedAt: this.#startedAt, ms: this.#now() });
      this.#sent += 1;
      return this.#textOf(outgoing);
    };
    this.#pool.send(make, (outcome) => {
      if (outgoing === null || outcome.kind === 'unsent') this.#counts.unsent += 1;
      else this.#answered(outgoing, outcome, arrival.due);
    });
  }

  #textOf({ body, contentType = 'application/jose', apiKey = this.#options.apiKey }: Outgoing): string {
    return (
      `POST /v1/readings HTTP/1.1\r\nhost: ${this.#host}\r\ncontent-type: ${contentType}\r\n` +
      `x-api-key: ${apiKey}\r\ncontent-length: ${body.length}\r\n\r\n${body}`
    );
  }

  #answered({ kind, expects, readings, accepted }: Outgoing, outcome: SentOutcome, due: number): void {
    const answer = answerOf(outcome);
    if (answer === '202' && readings > 0) {
      this.#counts.accepted += 1;
      this.#counts.acceptedReadings += readings;
      accepted();
    } else {
      this.#refused += 1;
      if (outcome.kind === 'unanswered' || answer === '503 store-unavailable')
        this.#counts.uncertainReadings += readings;
    }
    this.#tally.answered(kind, answer, expects.includes(answer) || isBusy(answer), this.#now() - due);
  }

  /** Waits for what is under way, as long as a single answer may take; with nobody there not at all. */
  async #drain(): Promise<void> {
    if (this.#ended !== 'done') this.#pool.giveUpWaiting();
    const until = performance.now() + this.#options.timeoutMs;
    while (this.#ended !== 'unreachable' && this.#pool.outstanding() > 0 && performance.now() < until) {
      await new Promise((resolve) => setTimeout(resolve, 5));
      if (this.#isDown()) this.#ended = 'unreachable';
    }
    this.#pool.close();
  }
}

const CODE = /"code":"([a-z0-9-]{1,40})"/;

/** `202`, `409 replay`, `timeout`, … */
function answerOf(outcome: SentOutcome): string {
  if (outcome.kind === 'unanswered') return outcome.why;
  const { status, body } = outcome.response;
  if (status < 400) return String(status);
  const code = CODE.exec(body)?.[1];
  return code === undefined ? String(status) : `${status} ${code}`;
}

/** Refusals that any envelope may meet: come back later. */
function isBusy(answer: string): boolean {
  return answer.startsWith('429') || answer.startsWith('503');
}
