import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { SEALED_MOST } from '../bus/seal.ts';
import { decodeLive, encodeLive, FRAMES_MOST, isOwn, readRow } from './live-wire.ts';

const frame = {
  ...{ device_id: 'web-1', timestamp: 1700, cpu_percent: 1.5, mem_percent: 2, disk_percent: 3 },
  ...{ gpu_percent: null, agent_cpu_percent: 0.25, agent_mem_mb: 40.5 },
};

describe('a payload of live devices', () => {
  it('is read as it was written', () => {
    const devices = [
      { heardAt: 5, frame },
      { heardAt: 6, frame: { ...frame, device_id: 'b', gpu_percent: 100 } },
    ];
    const payload = encodeLive('i-1', 7, devices);
    expect(decodeLive(payload)).toEqual({ instance: 'i-1', number: 7, devices });
    expect(decodeLive(encodeLive('i-1', 8, []))).toEqual({ instance: 'i-1', number: 8, devices: [] });
    expect([isOwn('i-1', payload), isOwn('i-2', payload), isOwn('i', payload)]).toEqual([true, false, false]);
  });

  it('of another version, or anything else, is dropped whole', () => {
    const row = '[5,"a",1,2,3,4,null,null,null]';
    expect(decodeLive(`live-1 i 1 [${row}]`)).toMatchObject({ number: 1 });
    const wrong = [
      ...[
        '',
        'x',
        '{}',
        `live-2 i 1 [${row}]`,
        `live-1 i 0 [${row}]`,
        `live-1 i [${row}]`,
        'live-1 i 1 ',
        'live-1 i 1 {}',
      ],
      ...[
        '[5]',
        '5',
        '[5,"a",1,2,3,4,null,null,null,0]',
        '[-1,"a",1,2,3,4,null,null,null]',
        '[5,"a b",1,2,3,4,null,null,null]',
        '[5,"a",1.5,2,3,4,null,null,null]',
        '[5,"a",1,101,3,4,null,null,null]',
        '[5,"a",1,null,3,4,null,null,null]',
        '[5,"a",1,"2",3,4,null,null,null]',
        '[5,"a",1,2,3,4,true,null,null]',
        '[5,"a",1,2,3,4,null,1001,null]',
        '[5,"a",1,2,3,4,null,null,-1]',
      ].map((bad) => `live-1 i 1 [${row},${bad}]`),
      `live-1 i 1 [${Array.from({ length: FRAMES_MOST + 1 }, () => row).join(',')}]`,
    ];
    for (const text of wrong) expect(decodeLive(text), text.slice(0, 80)).toBe('malformed');
  });

  it('never throws and never believes a frame that is none, whatever comes', () => {
    fc.assert(
      fc.property(fc.json(), fc.string(), (json, text) => {
        for (const payload of [text, `live-1 i 1 ${json}`, `live-1 i 1 ${text}`]) {
          const read = decodeLive(payload);
          if (read === 'malformed') continue;
          for (const {
            frame: { cpu_percent },
          } of read.devices)
            expect(cpu_percent).toBeLessThanOrEqual(100);
        }
      }),
    );
  });

  it('with as many of the longest frames as it may have passes the seal of the bus', () => {
    const longest = {
      ...{ device_id: 'd'.repeat(64), timestamp: 9007199254740, cpu_percent: 1 / 3, mem_percent: 200 / 3 },
      ...{
        disk_percent: 100 / 7,
        gpu_percent: 100 / 9,
        agent_cpu_percent: 1000 / 3,
        agent_mem_mb: 1.2345678901234567e300,
      },
    };
    const devices = Array.from({ length: FRAMES_MOST }, () => ({ heardAt: 9_007_199_254_740_991, frame: longest }));
    expect(encodeLive('i'.repeat(64), 1, devices).length).toBeLessThan(SEALED_MOST / 2);
  });

  it('takes optional numbers of the store as absent where they are', () => {
    expect(readRow([5, 'a', 1, 2, 3, 4])).toEqual({
      heardAt: 5,
      frame: {
        ...{ device_id: 'a', timestamp: 1, cpu_percent: 2, mem_percent: 3, disk_percent: 4 },
        ...{ gpu_percent: null, agent_cpu_percent: null, agent_mem_mb: null },
      },
    });
  });
});
