/**
 * Runs a fleet: signs each envelope when it is due, sends it, and counts what comes back. The load generator of
 * `tocsin simulate`, of the demo and of the benchmarks.
 *
 * Guarantees: an open loop ({@link baseArrivals}); latency counts from the moment an envelope was due, also when this
 * process was late or every connection was busy; every envelope that was due is in the report, once. Bounded: beyond
 * `mostOutstanding` envelopes are counted as unsent.
 * Failure: never rejects for what a server does; `ended` says when nobody listened for 5 s.
 */
import { createKey } from '../key.ts';
import { type AttackRequest, buildAttack, type Recorded } from './attacks.ts';
import {
  type Arrival,
  type ArrivalSource,
  baseArrivals,
  earthquakeArrivals,
  mergeArrivals,
  waveformArrivals,
} from './arrivals.ts';
import { earthquakeOf, type EarthquakePlan, originOf } from './earthquake.ts';
import type { Attack, FleetOptions } from './fleet.ts';
import { createTally, type EnvelopeKind, type FleetReport } from './fleet-report.ts';
import { createHistogram } from './histogram.ts';
import { createHttpPool, type HttpOutcome, type HttpPool } from './http-pool.ts';
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
/** Accepted envelopes that are kept for replays. */
const RECORDED = 256;
/** A sensor needs so long to see and send a P wave, ms, at least and by chance on top. */
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

type DueEnvelope = Exclude<Arrival, { readonly kind: 'origin' }>;

class Run {
  readonly #options: FleetOptions;
  readonly #pool: HttpPool;
  readonly #signal: AbortSignal | undefined;
  readonly #random: Random;
  readonly #signers: readonly FleetSigner[];
  /** Devices that base arrivals are of. */
  readonly #speakers: readonly FleetSigner[];
  readonly #arrivals: ArrivalSource;
  readonly #foreignKey = createKey();
  readonly #tally = createTally();
  readonly #lateness = createHistogram();
  readonly #recorded: Recorded[] = [];
  readonly #head: string;
  readonly #began: number;
  readonly #startedAt: number;
  readonly #endMs: number;
  #planned = 0;
  #sent = 0;
  #unsent = 0;
  #accepted = 0;
  #acceptedReadings = 0;
  #uncertainReadings = 0;
  #refused = 0;
  #envelopes = 0;
  #attacks = 0;
  #attackTurns: Record<Attack, number> = { replay: 0, forged: 0, stale: 0, malformed: 0 };
  #mostOutstanding = 0;
  #ended: FleetReport['ended'] = 'done';

  constructor(options: FleetOptions, pool: HttpPool, signal: AbortSignal | undefined) {
    this.#options = options;
    this.#pool = pool;
    this.#signal = signal;
    this.#random = createRandom(`${options.seed}/${options.run}/readings`);
    this.#signers = createFleetSigners(options, this.#random);
    this.#speakers = this.#signers.filter(({ waveform }) => !waveform);
    this.#arrivals = this.#plan();
    this.#endMs = options.seconds === null ? Infinity : options.seconds * 1000;
    this.#head = `host: ${new URL(options.origin).host}\r\ncontent-type: `;
    this.#startedAt = Date.now();
    this.#began = performance.now();
  }

  #plan(): ArrivalSource {
    const { seed, ratePerSecond, arrival, earthquakes } = this.#options;
    const waveforms = this.#signers.flatMap(({ waveform }, i) => (waveform ? [i] : []));
    return mergeArrivals([
      baseArrivals(this.#speakers.length === 0 ? 0 : ratePerSecond, arrival, createRandom(`${seed}/arrivals`)),
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
    const earthquake = earthquakeOf(plan, n, createRandom(`${this.#options.seed}/earthquake/${n}`));
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
      startedAt: this.#startedAt,
      seconds,
      planned: this.#planned,
      unsent: this.#unsent,
      accepted: this.#accepted,
      acceptedReadings: this.#acceptedReadings,
      uncertainReadings: this.#uncertainReadings,
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
    return {
      elapsedMs: this.#now(),
      sent: this.#sent,
      accepted: this.#accepted,
      refused: this.#refused,
      unsent: this.#unsent,
      outstanding: this.#pool.outstanding(),
    };
  }

  #now(): number {
    return performance.now() - this.#began;
  }

  /** Takes up what is due until the end of the schedule. */
  #sendAll(): Promise<void> {
    return new Promise((resolve, reject) => {
      let timer: NodeJS.Timeout | undefined;
      const turn = (): void => {
        try {
          const wait = this.#turn();
          if (wait === null) return finish();
          if (wait <= 0) setImmediate(turn);
          else timer = setTimeout(turn, Math.min(wait, PROGRESS_MS));
        } catch (error) {
          reject(error instanceof Error ? error : new Error(String(error)));
        }
      };
      const finish = (): void => {
        clearTimeout(timer);
        resolve();
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
    const down = this.#pool.downSince();
    if (down !== null && performance.now() - down > UNREACHABLE_MS) this.#ended = 'unreachable';
    return this.#ended !== 'done';
  }

  #take(arrival: DueEnvelope, now: number): void {
    this.#planned += 1;
    const outstanding = this.#pool.outstanding();
    this.#mostOutstanding = Math.max(this.#mostOutstanding, outstanding);
    if (outstanding >= this.#options.mostOutstanding) {
      this.#unsent += 1;
      return;
    }
    this.#lateness.add(now - arrival.due);
    const attack = arrival.kind === 'base' ? this.#attackOf() : null;
    if (attack !== null) this.#attack(attack, arrival.due);
    else this.#speak(arrival);
  }

  /** The attack that takes the place of an honest envelope, by the share of attacks. */
  #attackOf(): AttackRequest | null {
    const { attacks, attackShare } = this.#options;
    if (attacks.length === 0 || this.#random.uniform() >= attackShare) return null;
    const kind = attacks[this.#attacks % attacks.length];
    const device = this.#speakers[this.#random.integer(this.#speakers.length)];
    if (kind === undefined || device === undefined) return null;
    this.#attacks += 1;
    const request = buildAttack(kind, this.#attackTurns[kind], {
      device,
      foreignKey: this.#foreignKey,
      recorded: this.#recorded[this.#random.integer(Math.max(1, this.#recorded.length))] ?? null,
      now: Date.now(),
      id: this.#newId(),
      random: this.#random,
    });
    if (request !== null) this.#attackTurns[kind] += 1;
    return request;
  }

  #attack({ kind, body, contentType, apiKey, expects }: AttackRequest, due: number): void {
    this.#send(body, { contentType, apiKey }, (outcome) => {
      const answer = answerOf(outcome);
      this.#count(kind, answer, expects.includes(answer) || isBusy(answer), due);
    });
  }

  #speak(arrival: DueEnvelope): void {
    const device =
      arrival.kind === 'base' ? this.#speakers[this.#envelopes % this.#speakers.length] : this.#signers[arrival.device];
    if (device === undefined) return;
    const at = Date.now();
    const id = this.#newId();
    const kind = arrival.kind === 'base' ? (device.profile === 'host' ? 'host' : 'trigger') : arrival.kind;
    const readings = this.#readings(device, arrival, at);
    const body = device.signer.seal({ id, at, profile: device.profile, readings });
    this.#send(body, {}, (outcome) => {
      const answer = answerOf(outcome);
      if (answer === '202') {
        this.#accepted += 1;
        this.#acceptedReadings += readings.length;
        if (this.#options.attacks.includes('replay')) this.#record({ device, id, at, body });
      } else if (outcome.kind === 'unanswered' || answer === '503 store-unavailable') {
        this.#uncertainReadings += readings.length;
      }
      this.#count(kind, answer, answer === '202' || isBusy(answer), arrival.due);
    });
  }

  #readings(device: FleetSigner, arrival: DueEnvelope, at: number): object[] {
    const ms = this.#now();
    if (arrival.kind === 'base') return device.measure(at, ms);
    // The time of the ground, not that of sending: a generator that is late must not move the waves.
    if (arrival.kind === 'waveform') return device.packet(this.#startedAt + arrival.due, arrival.due);
    return device.trigger(Math.round(this.#startedAt + arrival.felt.pMs), arrival.felt);
  }

  #record(recorded: Recorded): void {
    if (this.#recorded.length < RECORDED) this.#recorded.push(recorded);
    else this.#recorded[this.#accepted % RECORDED] = recorded;
  }

  #newId(): string {
    this.#envelopes += 1;
    return `${this.#options.run}-${this.#envelopes.toString(36)}`;
  }

  #send(
    body: string,
    {
      contentType = 'application/jose',
      apiKey = this.#options.apiKey,
    }: { contentType?: string | undefined; apiKey?: string | undefined },
    done: (outcome: HttpOutcome) => void,
  ): void {
    this.#sent += 1;
    const head = `POST /v1/readings HTTP/1.1\r\n${this.#head}${contentType}\r\nx-api-key: ${apiKey}\r\ncontent-length: ${body.length}\r\n\r\n`;
    this.#pool.send(head + body, done);
  }

  #count(kind: EnvelopeKind, answer: string, expected: boolean, due: number): void {
    if (answer !== '202') this.#refused += 1;
    this.#tally.answered(kind, answer, expected, this.#now() - due);
  }

  /** Waits for what is under way, as long as a single answer may take; with nobody there not at all. */
  async #drain(): Promise<void> {
    const until = performance.now() + (this.#ended === 'unreachable' ? 0 : this.#options.timeoutMs);
    while (this.#pool.outstanding() > 0 && performance.now() < until) {
      await new Promise((resolve) => setTimeout(resolve, 5));
      const down = this.#pool.downSince();
      if (down !== null && performance.now() - down > UNREACHABLE_MS) {
        this.#ended = 'unreachable';
        break;
      }
    }
    this.#pool.close();
  }
}

const CODE = /"code":"([a-z0-9-]{1,40})"/;

/** `202`, `409 replay`, `timeout`, … */
function answerOf(outcome: HttpOutcome): string {
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
