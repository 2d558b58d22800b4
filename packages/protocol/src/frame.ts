/**
 * The frame of host metrics: what a host sends over MQTT on `devices/<id>/metrics`, and what viewers of `/ws/devices` see of
 * it. The shape after validation; `server/src/profiles/host` holds the rules.
 */
import type { HostReading } from './envelope.ts';

/** A frame; absent optionals as null. Percentages 0..100. */
export interface HostFrame {
  readonly device_id: string;
  /** Unix seconds, a whole number. */
  readonly timestamp: number;
  readonly cpu_percent: number;
  readonly mem_percent: number;
  readonly disk_percent: number;
  readonly gpu_percent: number | null;
  readonly agent_cpu_percent: number | null;
  readonly agent_mem_mb: number | null;
}

/** The frame that a reading of a host is shown as. */
export function frameOf(deviceId: string, { at, ...numbers }: HostReading): HostFrame {
  const { cpu_percent, mem_percent, disk_percent, gpu_percent, agent_cpu_percent, agent_mem_mb } = numbers;
  return {
    device_id: deviceId,
    timestamp: Math.floor(at / 1000),
    cpu_percent,
    mem_percent,
    disk_percent,
    gpu_percent,
    agent_cpu_percent,
    agent_mem_mb,
  };
}
