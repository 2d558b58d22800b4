/**
 * A fleet spread over several processes, for rates that one cannot sign; their reports are added up. With one process the
 * fleet still runs in a process of its own, so that its work is not the caller's.
 *
 * Guarantees: options, and the secrets in them, travel over the private channel, never as arguments or environment. A
 * process ends with its parent. Failure: rejects when a process ends without a report.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { FleetOptions } from './fleet.ts';
import { type FleetReport, mergeReports } from './fleet-report.ts';
import type { FleetHooks, FleetProgress } from './run-fleet.ts';

/** What a process is told: first `prepare`, and once all are ready `go`. */
export type FleetOrder = { readonly prepare: FleetOptions } | 'go' | 'stop';
/** What it tells. */
export type FleetNews = 'prepared' | { readonly progress: FleetProgress } | { readonly report: FleetReport };

/** Each process has a part of the devices, of the rate and of the connections; earthquakes are the same in all. Pure. */
export function partsOf(options: FleetOptions, processes: number): FleetOptions[] {
  const parts = Math.max(1, Math.min(processes, options.devices.length));
  const speaks = ({ waveform = false }: { readonly waveform?: boolean }): boolean => !waveform;
  const speakers = options.devices.filter(speaks).length;
  return Array.from({ length: parts }, (_, part) => {
    const devices = options.devices.filter((_device, i) => i % parts === part);
    const share = speakers === 0 ? 0 : devices.filter(speaks).length / speakers;
    return {
      ...options,
      devices,
      run: parts === 1 ? options.run : `${options.run}-${part}`,
      seed: parts === 1 ? options.seed : `${options.seed}/${part}`,
      ratePerSecond: options.ratePerSecond * share,
      connections: Math.max(1, Math.floor(options.connections / parts)),
      mostOutstanding: Math.max(1, Math.floor(options.mostOutstanding / parts)),
    };
  });
}

/** Runs it. */
export async function runFleetProcesses(
  options: FleetOptions,
  processes: number,
  hooks: FleetHooks = {},
): Promise<FleetReport> {
  const children = partsOf(options, processes).map(startChild);
  const stop = (): void => children.forEach(({ stop: end }) => end());
  hooks.signal?.addEventListener('abort', stop);
  const progress = setInterval(() => hooks.onProgress?.(sum(children.map(({ progress: last }) => last()))), 250);
  try {
    await Promise.all(children.map(({ prepared }) => prepared));
    if (hooks.signal?.aborted === true) stop();
    children.forEach(({ go }) => go());
    const reports = await Promise.all(children.map(({ report }) => report));
    hooks.onProgress?.(sum(children.map(({ progress: last }) => last())));
    return mergeReports(reports);
  } finally {
    clearInterval(progress);
    hooks.signal?.removeEventListener('abort', stop);
    children.forEach(({ child }) => child.kill('SIGKILL'));
  }
}

interface FleetChild {
  readonly child: ChildProcess;
  readonly prepared: Promise<void>;
  readonly report: Promise<FleetReport>;
  progress(): FleetProgress;
  go(): void;
  stop(): void;
}

const NOTHING: FleetProgress = { elapsedMs: 0, sent: 0, accepted: 0, refused: 0, unsent: 0, outstanding: 0 };

function startChild(options: FleetOptions): FleetChild {
  // Signals of the terminal are the parent's to answer: it tells its children.
  const child = fork(fileURLToPath(new URL('fleet-process.js', import.meta.url)), [], {
    execArgv: [],
    detached: true,
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
  });
  let last = NOTHING;
  const order = (what: FleetOrder): void => {
    if (child.connected) child.send(what);
  };
  let isPrepared: () => void = () => undefined;
  let failPrepared: (error: Error) => void = () => undefined;
  const prepared = new Promise<void>((resolve, reject) => {
    [isPrepared, failPrepared] = [resolve, reject];
  });
  const report = new Promise<FleetReport>((resolve, reject) => {
    child.on('message', (news: FleetNews) => {
      if (news === 'prepared') isPrepared();
      else if ('progress' in news) last = news.progress;
      else resolve(news.report);
    });
    const lost = (why: string): void => {
      const error = new Error(`a process of the fleet ended before its time (${why})`);
      failPrepared(error);
      reject(error);
    };
    child.on('error', (error) => lost(error.message));
    child.on('exit', (code, signal) => lost(String(code ?? signal)));
  });
  report.catch(() => undefined);
  prepared.catch(() => undefined);
  order({ prepare: options });
  return {
    child,
    prepared,
    report,
    progress: () => last,
    go: () => order('go'),
    stop: () => order('stop'),
  };
}

function sum(all: readonly FleetProgress[]): FleetProgress {
  return all.reduce((one, other) => ({
    elapsedMs: Math.max(one.elapsedMs, other.elapsedMs),
    sent: one.sent + other.sent,
    accepted: one.accepted + other.accepted,
    refused: one.refused + other.refused,
    unsent: one.unsent + other.unsent,
    outstanding: one.outstanding + other.outstanding,
  }));
}
