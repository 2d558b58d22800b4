/**
 * How busy the GPUs are, as nvidia-smi says it: the busiest one.
 *
 * Guarantees: nobody waits for nvidia-smi; it is asked beside the frames, one question at a time, killed when it does not
 * answer in time, and a next one begins only once the last is gone (a hanging driver leaves one process, not many). Where
 * it fails or is not there it is asked less and less often. A number that is too old is null.
 */
import { backOffMs } from '../retry.ts';
import type { TimeSource } from '../time-source.ts';
import { readGpuPercent } from './machine-texts.ts';

/** The last known number. */
export interface Gpu {
  /** 0 to 100; null when it is not known, or not any more. */
  percent(): number | null;
  /** Asks again, unless that is going on or has failed of late. */
  ask(): void;
  /** Ends a question. */
  close(): void;
}

/** Answers what nvidia-smi printed, or null where it failed; settles once its process is gone. Never rejects. */
export type AskNvidia = (signal: AbortSignal) => Promise<string | null>;

/** What the GPU needs. */
export interface GpuOptions {
  readonly ask?: AskNvidia;
  /** A number older than this is not known any more, ms. */
  readonly freshMs: number;
  readonly time: TimeSource;
  /** In [0, 1). */
  readonly random: () => number;
}

const ANSWER_MS = 10_000;
const ANSWER_BYTES = 65_536;
/** Between tries while they fail; the driver may be installed later. */
const BACK_OFF = { firstMs: 60_000, mostMs: 3_600_000 } as const;

/** Begins to look. */
export function createGpu({ ask = askNvidia, freshMs, time, random }: GpuOptions): Gpu {
  let last: { readonly percent: number; readonly at: number } | null = null;
  let asking: AbortController | null = null;
  let failures = 0;
  let notBefore = 0;
  const question = async (controller: AbortController): Promise<void> => {
    const text = await ask(controller.signal);
    asking = null;
    const percent = text === null ? null : readGpuPercent(text);
    const now = time.monotonic();
    if (percent !== null) {
      failures = 0;
      last = { percent, at: now };
      return;
    }
    failures += 1;
    notBefore = now + backOffMs(failures, BACK_OFF, random());
  };
  return {
    percent: () => (last !== null && time.monotonic() - last.at <= freshMs ? last.percent : null),
    ask: () => {
      if (asking !== null || time.monotonic() < notBefore) return;
      asking = new AbortController();
      void question(asking);
    },
    close: () => {
      notBefore = Number.POSITIVE_INFINITY;
      asking?.abort();
    },
  };
}

async function askNvidia(signal: AbortSignal): Promise<string | null> {
  const { execFile } = await import('node:child_process');
  return new Promise((resolve) => {
    execFile(
      'nvidia-smi',
      ['--query-gpu=utilization.gpu', '--format=csv,noheader,nounits'],
      { timeout: ANSWER_MS, killSignal: 'SIGKILL', maxBuffer: ANSWER_BYTES, windowsHide: true, signal },
      (error, stdout) => resolve(error === null ? stdout : null),
    );
  });
}
