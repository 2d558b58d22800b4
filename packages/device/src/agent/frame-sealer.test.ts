import { expect, it } from 'vitest';
import { createFrameSealer } from './frame-sealer.ts';

const READING = {
  ...{ at: 1_795_894_928_765, cpu_percent: 12.5, mem_percent: 40, disk_percent: 70.1 },
  ...{ gpu_percent: null, agent_cpu_percent: 0.1, agent_mem_mb: 51.3 },
};

it('a reading becomes the frame of section 4: its device, whole seconds, and no other member', () => {
  const { at, ...numbers } = READING;
  const text = createFrameSealer('h1').seal({ id: 'e1', at: 5, profile: 'host', readings: [READING] });
  expect(JSON.parse(text)).toEqual({ device_id: 'h1', timestamp: Math.floor(at / 1000), ...numbers });
});

it('a frame that is sent again has the same text, whenever that is', () => {
  const sealer = createFrameSealer('h1');
  const [first, again] = [1, 99].map((at) => sealer.seal({ id: `e${at}`, at, profile: 'host', readings: [READING] }));
  expect(again).toBe(first);
});
