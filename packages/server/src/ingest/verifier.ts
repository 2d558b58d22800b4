/**
 * Checks signatures on threads of its own, many in one message.
 *
 * Why not the thread pool of `crypto.verify`: each call there wakes a thread, and on two busy cores a wake-up costs the
 * event loop about 50 µs of the 80 that the check itself takes elsewhere. What arrives in one turn of the loop, or while
 * the threads are busy, shares one message here: about 2 µs each (docs/adr/0003).
 *
 * Guarantee: true only for a signature that checks. When a thread dies, its batches are checked on the pool instead and
 * a new one is started.
 */
import type { KeyObject } from 'node:crypto';
import { Worker } from 'node:worker_threads';
import { verifySignature } from './signature.ts';

/** What a thread is told: `signatures` are bytes as latin1, `fresh` the keys that it has not seen (DER). */
export interface VerifyBatch {
  readonly texts: string[];
  readonly signatures: string[];
  readonly keys: number[];
  readonly fresh: [number, Uint8Array][];
  readonly reset: boolean;
}

/** Checks signatures over ASCII text. */
export interface Verifier {
  check(text: string, key: KeyObject, signature: Buffer): Promise<boolean>;
  close(): Promise<void>;
}

/** How it runs. `onThreadLost` hears why a thread ended by itself. */
export interface VerifierOptions {
  /** 0: on the thread pool, without threads of its own. */
  readonly threads: number;
  readonly onThreadLost: (error: unknown) => void;
}

/** Signatures of one message at most, so that a long line does not wait for one thread while another is idle. */
const BATCH = 64;
/** Messages that a thread has at once: one that it works on, one that waits, so that it never sleeps under load. */
const MESSAGES = 2;
/** Keys that a thread keeps; beyond it starts anew. */
const KEYS = 50_000;

interface Waiting {
  readonly text: string;
  readonly key: KeyObject;
  readonly signature: Buffer;
  readonly resolve: (good: boolean) => void;
}

interface Thread {
  readonly worker: Worker;
  /** Batches that it has, oldest first. */
  readonly sent: Waiting[][];
  readonly known: Set<number>;
}

/** Numbers keys, so that a thread is told of each once. */
function createKeyNumbers(): (key: KeyObject) => number {
  const numbers = new WeakMap<KeyObject, number>();
  let next = 0;
  return (key) => {
    let number = numbers.get(key);
    if (number === undefined) {
      number = next;
      next += 1;
      numbers.set(key, number);
    }
    return number;
  };
}

function batchFor(thread: Thread, batch: readonly Waiting[], numberOf: (key: KeyObject) => number): VerifyBatch {
  const reset = thread.known.size > KEYS;
  if (reset) thread.known.clear();
  const fresh: [number, Uint8Array][] = [];
  const keys = batch.map(({ key }) => {
    const number = numberOf(key);
    if (!thread.known.has(number)) {
      thread.known.add(number);
      fresh.push([number, new Uint8Array(key.export({ type: 'spki', format: 'der' }))]);
    }
    return number;
  });
  return {
    texts: batch.map(({ text }) => text),
    signatures: batch.map(({ signature }) => signature.toString('latin1')),
    keys,
    fresh,
    reset,
  };
}

/** Builds the verifier and starts its threads. */
export function createVerifier(options: VerifierOptions): Verifier {
  if (options.threads === 0) return { check: verifySignature, close: async () => undefined };
  const numberOf = createKeyNumbers();
  const waiting: Waiting[] = [];
  const threads: Thread[] = [];
  let closed = false;
  let scheduled = false;

  const dispatch = (): void => {
    scheduled = false;
    for (let round = 0; round < MESSAGES; round += 1) {
      for (const thread of threads) {
        if (waiting.length === 0) return;
        if (thread.sent.length > round) continue;
        const share = Math.min(BATCH, Math.ceil(waiting.length / threads.length));
        const batch = waiting.splice(0, share);
        thread.sent.push(batch);
        thread.worker.postMessage(batchFor(thread, batch, numberOf));
      }
    }
  };
  const lost = (thread: Thread, error: unknown): void => {
    const index = threads.indexOf(thread);
    if (index < 0) return;
    threads.splice(index, 1);
    for (const { text, key, signature, resolve } of thread.sent.flat())
      void verifySignature(text, key, signature).then(resolve);
    if (closed) return;
    options.onThreadLost(error);
    start();
  };
  const start = (): void => {
    const worker = new Worker(new URL('verify-thread.js', import.meta.url));
    const thread: Thread = { worker, sent: [], known: new Set() };
    worker.unref();
    worker.on('message', (results: Uint8Array) => {
      const batch = thread.sent.shift() ?? [];
      for (const [i, { resolve }] of batch.entries()) resolve(results[i] === 1);
      dispatch();
    });
    worker.on('error', (error) => lost(thread, error));
    worker.on('exit', (code) => lost(thread, new Error(`the thread ended with ${code}`)));
    threads.push(thread);
  };
  for (let i = 0; i < options.threads; i += 1) start();

  return {
    check: (text, key, signature) =>
      new Promise((resolve) => {
        waiting.push({ text, key, signature, resolve });
        if (scheduled) return;
        scheduled = true;
        setImmediate(dispatch);
      }),
    close: async () => {
      closed = true;
      await Promise.all(threads.map(({ worker }) => worker.terminate()));
    },
  };
}
