/** Live devices for tests. */
import type { LiveDevice } from './live-board.ts';

/** A device that was heard at `heardAt` (Unix ms). */
export function device(
  id: string,
  heardAt: number,
  cpu = 1,
  timestamp: number = Math.floor(heardAt / 1000),
): LiveDevice {
  const frame = {
    ...{ device_id: id, timestamp, cpu_percent: cpu, mem_percent: 2, disk_percent: 3 },
    ...{ gpu_percent: null, agent_cpu_percent: null, agent_mem_mb: null },
  };
  return { frame, heardAt };
}
