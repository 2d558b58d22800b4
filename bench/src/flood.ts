/**
 * A flood from a process of its own: far more signed envelopes than a server can take, over as many connections as devices
 * would hold. Everything is signed before it starts; what is refused is sent again later with the same id, as devices do.
 *
 * Open loop: so many are due each second, whatever the answers. What finds no free connection is counted as unsent.
 * Talks with its parent: gets a {@link Flood}, answers `prepared`; gets `go`, answers a {@link FloodReport}.
 */
import { createPrivateKey } from 'node:crypto';
import { createSigner } from '@tocsin/device/envelope';
import { createHistogram } from '@tocsin/device/simulate/histogram';
import { createHttpPool, type HttpOutcome, type HttpPool } from '@tocsin/device/simulate/http-pool';

/** What to send. */
export interface Flood {
  readonly origin: string;
  readonly apiKey: string;
  readonly devices: readonly { readonly id: string; readonly privateKeyPem: string }[];
  /** Envelopes with an id of their own. */
  readonly unique: number;
  readonly ratePerSecond: number;
  readonly seconds: number;
  readonly connections: number;
  readonly run: string;
}

/** One second of the flood. */
export interface FloodSecond {
  readonly sent: number;
  readonly accepted: number;
  readonly refused: number;
  readonly unsent: number;
  /** Of those accepted in it, from their sending, ms. */
  readonly p50: number;
  readonly p99: number;
}

/** What came of it. */
export interface FloodReport {
  readonly seconds: readonly FloodSecond[];
  /** Envelopes that are durable by what was answered: 202, or 409 `replay`. */
  readonly durable: number;
  /** Envelopes whose last word was none, or a 503 that may hide a commit. */
  readonly uncertain: number;
  readonly answers: Readonly<Record<string, number>>;
  /** Processor seconds. */
  readonly cpu: number;
}

const TIMEOUT_MS = 15_000;
const DRAIN_MS = 20_000;
const TURN_MS = 2;

function sign({ devices, unique, run, apiKey, origin }: Flood): string[] {
  const signers = devices.map(({ id, privateKeyPem }) => createSigner(id, createPrivateKey(privateKeyPem)));
  const { host } = new URL(origin);
  return Array.from({ length: unique }, (_, i) => {
    const signer = signers[i % signers.length];
    if (signer === undefined) throw new TypeError('a flood has devices');
    const at = Date.now();
    const frame = { at, cpu_percent: i % 89, mem_percent: (i * 7) % 100, disk_percent: (i * 13) % 100 };
    const body = signer.seal({ id: `${run}-${i}`, at, profile: 'host', readings: [frame] });
    return `POST /v1/readings HTTP/1.1\r\nhost: ${host}\r\ncontent-type: application/jose\r\nx-api-key: ${apiKey}\r\ncontent-length: ${body.length}\r\n\r\n${body}`;
  });
}

class Run {
  readonly #flood: Flood;
  readonly #requests: readonly string[];
  readonly #pool: HttpPool;
  readonly #answers: Record<string, number> = {};
  readonly #seconds: { sent: number; accepted: number; refused: number; unsent: number }[] = [];
  readonly #latencies: ReturnType<typeof createHistogram>[] = [];
  /** Envelopes to send again, by the second from which on. */
  readonly #again = new Map<number, number[]>();
  readonly #uncertain = new Set<number>();
  #durable = 0;
  #fresh = 0;
  #began = 0;

  constructor(flood: Flood, requests: readonly string[]) {
    this.#flood = flood;
    this.#requests = requests;
    this.#pool = createHttpPool({ origin: flood.origin, connections: flood.connections, timeoutMs: TIMEOUT_MS });
  }

  async whole(): Promise<FloodReport> {
    const { ratePerSecond, seconds, connections } = this.#flood;
    const cpu = process.cpuUsage();
    this.#began = performance.now();
    let taken = 0;
    for (let elapsed = 0; elapsed < seconds * 1000; elapsed = performance.now() - this.#began) {
      const due = Math.floor((elapsed * ratePerSecond) / 1000);
      for (; taken < due && this.#pool.outstanding() < connections; taken += 1) this.#sendNext();
      this.#second().unsent += due - taken;
      taken = due;
      // Sleeps between: a loop that spins would take the server's core.
      await new Promise((resolve) => setTimeout(resolve, TURN_MS));
    }
    const until = performance.now() + DRAIN_MS;
    while (this.#pool.outstanding() > 0 && performance.now() < until)
      await new Promise((resolve) => setTimeout(resolve, 20));
    this.#pool.close();
    const { user, system } = process.cpuUsage(cpu);
    return {
      seconds: this.#seconds.map((second, i) => ({
        ...second,
        p50: this.#latencies[i]?.quantile(0.5) ?? 0,
        p99: this.#latencies[i]?.quantile(0.99) ?? 0,
      })),
      durable: this.#durable,
      uncertain: this.#uncertain.size,
      answers: this.#answers,
      cpu: (user + system) / 1e6,
    };
  }

  #index(): number {
    return Math.floor((performance.now() - this.#began) / 1000);
  }

  #second(): { sent: number; accepted: number; refused: number; unsent: number } {
    const index = this.#index();
    while (this.#seconds.length <= index) {
      this.#seconds.push({ sent: 0, accepted: 0, refused: 0, unsent: 0 });
      this.#latencies.push(createHistogram());
    }
    return this.#seconds[index] ?? { sent: 0, accepted: 0, refused: 0, unsent: 0 };
  }

  #sendNext(): void {
    const second = this.#second();
    const number = this.#next();
    const request = number === null ? undefined : this.#requests[number];
    if (number === null || request === undefined) {
      second.unsent += 1;
      return;
    }
    second.sent += 1;
    const sentAt = performance.now();
    this.#pool.send(
      () => request,
      (outcome) => this.#answered(number, sentAt, outcome),
    );
  }

  /** What may be sent again goes first. */
  #next(): number | null {
    const now = this.#index();
    for (const [second, numbers] of this.#again) {
      if (second > now) continue;
      const number = numbers.pop();
      if (number !== undefined) return number;
      this.#again.delete(second);
    }
    this.#fresh += 1;
    return this.#fresh <= this.#requests.length ? this.#fresh - 1 : null;
  }

  #answered(number: number, sentAt: number, outcome: HttpOutcome): void {
    const second = this.#second();
    const answer = nameOf(outcome);
    this.#answers[answer] = (this.#answers[answer] ?? 0) + 1;
    if (outcome.kind === 'answer' && (answer === '202' || answer === '409')) {
      this.#durable += 1;
      this.#uncertain.delete(number);
      second.accepted += 1;
      this.#latencies[this.#index()]?.add(performance.now() - sentAt);
      return;
    }
    second.refused += 1;
    const known = outcome.kind === 'answer' && !outcome.response.body.includes('store-unavailable');
    if (!known) this.#uncertain.add(number);
    const after =
      outcome.kind === 'answer' ? Number(/\r\nretry-after: (\d+)/i.exec(outcome.response.head)?.[1] ?? 1) : 1;
    const from = this.#index() + after;
    const line = this.#again.get(from);
    if (line === undefined) this.#again.set(from, [number]);
    else line.push(number);
  }
}

function nameOf(outcome: HttpOutcome): string {
  if (outcome.kind === 'answer') return String(outcome.response.status);
  return outcome.kind === 'unanswered' ? outcome.why : outcome.kind;
}

if (process.send !== undefined) {
  let prepared: Run | null = null;
  process.on('message', (message: Flood | 'go') => {
    if (message !== 'go') {
      prepared = new Run(message, sign(message));
      process.send?.('prepared');
    } else if (prepared !== null) {
      void prepared.whole().then((report) => process.send?.(report, () => process.exit(0)));
    }
  });
}
