/** What Linux and nvidia-smi say of a machine, read from their texts and numbers. Pure; null for what cannot be read. */

/** Time of all processors since the start of the machine, in whatever unit; only grows, or nearly so. */
export interface CpuTimes {
  readonly busy: number;
  readonly total: number;
}

/** A file system in blocks, as statfs(2) counts them. */
export interface DiskBlocks {
  readonly blocks: number;
  /** Free, those for the administrator only included. */
  readonly bfree: number;
  /** Free for everybody. */
  readonly bavail: number;
}

/** The share as a percentage with one decimal, within 0 and 100. */
export function percentOf(part: number, whole: number): number | null {
  const share = (part / whole) * 100;
  if (!Number.isFinite(share)) return null;
  return Math.round(Math.min(Math.max(share, 0), 100) * 10) / 10;
}

/**
 * The first line of /proc/stat (proc(5)): user nice system idle iowait irq softirq steal, then guest and guest_nice, which
 * user and nice hold already. Waiting for a disk is not busy; what the hypervisor gave to others is.
 */
export function readCpuTimes(text: string): CpuTimes | null {
  const line = /^cpu +([0-9 ]+)(?:\n|$)/.exec(text)?.[1];
  if (line === undefined) return null;
  const numbers = line.trim().split(/ +/).map(Number).slice(0, 8);
  if (numbers.length < 4 || !numbers.every(Number.isSafeInteger)) return null;
  const total = numbers.reduce((sum, each) => sum + each, 0);
  const [, , , idle = 0, iowait = 0] = numbers;
  return { busy: total - idle - iowait, total };
}

/** Busy between two looks, percent of all processors together; null when no time passed. */
export function cpuPercent(before: CpuTimes, after: CpuTimes): number | null {
  const total = after.total - before.total;
  return total > 0 ? percentOf(after.busy - before.busy, total) : null;
}

/**
 * Used memory of /proc/meminfo: what is not MemAvailable, so caches that the kernel would give up do not count. Kernels
 * before 3.14 do not say that; there it is free, buffers and caches.
 */
export function readMemoryPercent(text: string): number | null {
  const sizes = new Map<string, number>();
  for (const [, name = '', size] of text.matchAll(/^([A-Za-z()_0-9]+): +([0-9]{1,15}) kB$/gm)) {
    sizes.set(name, Number(size));
  }
  const total = sizes.get('MemTotal') ?? 0;
  const free = sizes.get('MemFree');
  const guess = free === undefined ? undefined : free + (sizes.get('Buffers') ?? 0) + (sizes.get('Cached') ?? 0);
  const available = sizes.get('MemAvailable') ?? guess;
  return available === undefined ? null : percentOf(total - available, total);
}

/** Used space as `df` shows it: of what everybody may use. */
export function diskPercent({ blocks, bfree, bavail }: DiskBlocks): number | null {
  const used = blocks - bfree;
  return percentOf(used, used + bavail);
}

/** The busiest of the GPUs, from `nvidia-smi --query-gpu=utilization.gpu --format=csv,noheader,nounits`. */
export function readGpuPercent(text: string): number | null {
  const numbers = text
    .split('\n')
    .map((line) => line.trim())
    // `[N/A]`, `[Not Supported]`: one that does not tell.
    .filter((line) => /^[0-9]{1,3}(\.[0-9]{1,3})?$/.test(line))
    .map(Number);
  return numbers.length === 0 ? null : percentOf(Math.max(...numbers), 100);
}
