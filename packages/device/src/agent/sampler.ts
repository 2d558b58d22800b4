/**
 * One frame's numbers: this machine's, and what the agent itself costs. Processor times are those between two samples.
 * Failure: rejects with a MeasureError; the next sample then reaches back to the last one that worked.
 */
import type { TimeSource } from '../time-source.ts';
import type { Gpu } from './gpu.ts';
import { type Machine, MeasureError } from './machine.ts';
import { type CpuTimes, cpuPercent } from './machine-texts.ts';

/** The numbers of a reading of a host, without its time. */
export interface HostNumbers {
  readonly cpu_percent: number;
  readonly mem_percent: number;
  readonly disk_percent: number;
  readonly gpu_percent: number | null;
  /** Of one core. */
  readonly agent_cpu_percent: number | null;
  /** Resident memory, units of 1,048,576 bytes. */
  readonly agent_mem_mb: number;
}

/** What this process has used. */
export interface OwnCost {
  /** Processor time, ms. */
  cpuMs(): number;
  residentBytes(): number;
}

/** Takes samples. */
export interface Sampler {
  sample(): Promise<HostNumbers>;
}

/** What a sampler asks. */
export interface SamplerPorts {
  readonly machine: Machine;
  readonly gpu: Pick<Gpu, 'percent'>;
  readonly own: OwnCost;
  readonly time: TimeSource;
}

const MEBIBYTE = 1_048_576;
/** The largest that the wire takes, percent: ten cores. */
const AGENT_CPU_MOST = 1000;

/** This process. Programs that it starts (nvidia-smi) are not in it. */
export const thisProcess: OwnCost = {
  cpuMs: () => {
    const { user, system } = process.cpuUsage();
    return (user + system) / 1000;
  },
  residentBytes: () => process.memoryUsage.rss(),
};

interface Look {
  readonly times: CpuTimes;
  readonly own: number;
  readonly at: number;
}

/** Looks for the first time; rejects with a MeasureError when the machine cannot be measured. */
export async function createSampler({ machine, gpu, own, time }: SamplerPorts): Promise<Sampler> {
  const look = async (): Promise<Look> => ({
    times: await machine.cpuTimes(),
    own: own.cpuMs(),
    at: time.monotonic(),
  });
  let before = await look();
  // What cannot be measured at all is said before the first frame.
  await Promise.all([machine.memoryPercent(), machine.diskPercent()]);
  return {
    sample: async () => {
      const [memory, disk] = await Promise.all([machine.memoryPercent(), machine.diskPercent()]);
      const now = await look();
      const cpu = cpuPercent(before.times, now.times);
      const cost = ((now.own - before.own) / (now.at - before.at)) * 100;
      before = now;
      if (cpu === null) throw new MeasureError('the processors have counted no time since the last sample');
      return {
        cpu_percent: cpu,
        mem_percent: memory,
        disk_percent: disk,
        gpu_percent: gpu.percent(),
        agent_cpu_percent: Number.isFinite(cost) ? oneDecimal(Math.min(Math.max(cost, 0), AGENT_CPU_MOST)) : null,
        agent_mem_mb: oneDecimal(own.residentBytes() / MEBIBYTE),
      };
    },
  };
}

function oneDecimal(value: number): number {
  return Math.round(value * 10) / 10;
}
