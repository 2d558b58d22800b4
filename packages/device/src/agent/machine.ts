/**
 * This machine's own numbers. On Linux from /proc, elsewhere from `node:os`.
 *
 * They are the machine's, as the kernel shows it: a limit of a container or of systemd does not change them. Where
 * `node:os` is asked, memory that caches hold counts as used (macOS).
 * Failure: a MeasureError that says what could not be read; a file system that does not answer is one after some seconds.
 */
import { open, statfs } from 'node:fs/promises';
import { cpus, freemem, totalmem } from 'node:os';
import { systemCode } from '../device-error.ts';
import type { TimeSource } from '../time-source.ts';
import { type CpuTimes, diskPercent, percentOf, readCpuTimes, readMemoryPercent } from './machine-texts.ts';

/** What can be asked of a machine. */
export interface Machine {
  cpuTimes(): Promise<CpuTimes>;
  /** 0 to 100. */
  memoryPercent(): Promise<number>;
  /** 0 to 100, of the file system that holds the path. */
  diskPercent(): Promise<number>;
}

/** A number that cannot be had now. */
export class MeasureError extends Error {
  override readonly name = 'MeasureError';
}

/** The longest that a file system may take to say how full it is, ms: one over the network may never answer. */
const DISK_MS = 5000;
/** The first line of /proc/stat; the lines of interrupts below it can be long. */
const STAT_BYTES = 512;
const MEMINFO_BYTES = 8192;

/** Where to look; the folder `proc` is another one in tests. */
export interface MachineOptions {
  readonly disk: string;
  readonly time: TimeSource;
  readonly proc?: string | null;
}

/** This machine. */
export function createMachine({ disk, time, proc = defaultProc() }: MachineOptions): Machine {
  const askDisk = createDiskQuestion(disk, time);
  const portable = { cpuTimes: async () => portableCpuTimes(), memoryPercent: async () => portableMemory() };
  const linux = (folder: string): Pick<Machine, 'cpuTimes' | 'memoryPercent'> => ({
    cpuTimes: async () => known(`${folder}/stat`, readCpuTimes(await readHead(`${folder}/stat`, STAT_BYTES))),
    memoryPercent: async () =>
      known(`${folder}/meminfo`, readMemoryPercent(await readHead(`${folder}/meminfo`, MEMINFO_BYTES))),
  });
  return { ...(proc === null ? portable : linux(proc)), diskPercent: askDisk };
}

function defaultProc(): string | null {
  return process.platform === 'linux' ? '/proc' : null;
}

function known<Value>(what: string, value: Value | null): Value {
  if (value === null) throw new MeasureError(`${what} says nothing that can be used`);
  return value;
}

/** Only as much as is needed, once. */
async function readHead(path: string, bytes: number): Promise<string> {
  try {
    const file = await open(path, 'r');
    try {
      const { buffer, bytesRead } = await file.read(Buffer.alloc(bytes), 0, bytes, 0);
      return buffer.toString('latin1', 0, bytesRead);
    } finally {
      await file.close();
    }
  } catch (error) {
    throw new MeasureError(`${path} cannot be read: ${systemCode(error) || String(error)}`, { cause: error });
  }
}

function portableCpuTimes(): CpuTimes {
  let busy = 0;
  let total = 0;
  for (const { times } of cpus()) {
    const working = times.user + times.nice + times.sys + times.irq;
    busy += working;
    total += working + times.idle;
  }
  return { busy, total };
}

function portableMemory(): number {
  return known('the system', percentOf(totalmem() - freemem(), totalmem()));
}

/** One question at a time: each that hangs holds one of Node's few threads. */
function createDiskQuestion(path: string, time: TimeSource): () => Promise<number> {
  let asked: Promise<number> | null = null;
  const ask = async (): Promise<number> => {
    try {
      return known(path, diskPercent(await statfs(path)));
    } catch (error) {
      if (error instanceof MeasureError) throw error;
      throw new MeasureError(`${path} cannot be asked: ${systemCode(error) || String(error)}`, { cause: error });
    } finally {
      asked = null;
    }
  };
  return () =>
    new Promise((resolve, reject) => {
      const forget = time.after(DISK_MS, () => reject(new MeasureError(`${path} does not answer`)));
      asked ??= ask();
      asked.then(resolve, reject).finally(forget);
    });
}
