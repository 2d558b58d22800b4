import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  cpuPercent,
  diskPercent,
  percentOf,
  readCpuTimes,
  readGpuPercent,
  readMemoryPercent,
} from './machine-texts.ts';

/** Debian 12, kernel 6.1, two cores. */
const STAT = `cpu  10132153 290696 3084719 46828483 16683 0 25195 7000 175628 0
cpu0 1393280 32966 572056 13343292 6130 0 17875 0 23933 0
intr 8885 0 0
`;
/** Linux 2.4: no iowait and beyond. */
const OLD_STAT = 'cpu  100 20 30 850\ncpu0 100 20 30 850\n';
const MEMINFO = `MemTotal:        4030496 kB
MemFree:          137032 kB
MemAvailable:    2015248 kB
Buffers:          200000 kB
Cached:          1700000 kB
SwapTotal:             0 kB
HugePages_Total:       0
`;
const OLD_MEMINFO = MEMINFO.replace(/^MemAvailable.*\n/m, '');

describe('the times of processors', () => {
  it('are busy but for idle and waiting for disks, guests counted once', () => {
    const total = 10132153 + 290696 + 3084719 + 46828483 + 16683 + 25195 + 7000;
    expect(readCpuTimes(STAT)).toEqual({ busy: total - 46828483 - 16683, total });
  });

  it('are read from old kernels, too', () => {
    expect(readCpuTimes(OLD_STAT)).toEqual({ busy: 150, total: 1000 });
  });

  it.each(['', 'cpu  1 2 3\n', 'cpu0 1 2 3 4\n', 'cpu  a b c d\n', `cpu  1 2 3 ${'9'.repeat(30)}\n`])(
    'are not read from %j',
    (text) => {
      expect(readCpuTimes(text)).toBeNull();
    },
  );

  it('give the share between two looks, with one decimal', () => {
    expect(cpuPercent({ busy: 100, total: 1000 }, { busy: 433, total: 2000 })).toBe(33.3);
  });

  it('give nothing when no time passed or the counters went back', () => {
    expect(cpuPercent({ busy: 1, total: 10 }, { busy: 1, total: 10 })).toBeNull();
    expect(cpuPercent({ busy: 1, total: 10 }, { busy: 0, total: 9 })).toBeNull();
  });

  it('give 0 when idle time was corrected upwards (iowait may fall: proc(5))', () => {
    expect(cpuPercent({ busy: 10, total: 20 }, { busy: 9, total: 30 })).toBe(0);
  });
});

describe('memory', () => {
  it('is used where it is not available', () => {
    expect(readMemoryPercent(MEMINFO)).toBe(50);
  });

  it('is guessed from free, buffers and caches on kernels that do not say what is available', () => {
    expect(readMemoryPercent(OLD_MEMINFO)).toBe(49.5);
  });

  it.each(['', 'MemTotal: 0 kB\nMemAvailable: 0 kB\n', 'MemAvailable: 5 kB\n', 'MemTotal: 5 kB\n'])(
    'is not read from %j',
    (text) => {
      expect(readMemoryPercent(text)).toBeNull();
    },
  );
});

describe('a disk', () => {
  it('is as full as df says: of what everybody may use', () => {
    expect(diskPercent({ blocks: 1000, bfree: 300, bavail: 250 })).toBe(73.7);
  });

  it('without blocks says nothing', () => {
    expect(diskPercent({ blocks: 0, bfree: 0, bavail: 0 })).toBeNull();
  });
});

describe('the GPU', () => {
  it.each([
    ['37\n', 37],
    ['3\n97\n12\n', 97],
    ['0\n[N/A]\n', 0],
    ['[Not Supported]\n', null],
    ['NVIDIA-SMI has failed because it could not communicate with the NVIDIA driver.\n', null],
    ['', null],
    ['250\n', 100],
  ])('of %j is %j', (text, percent) => {
    expect(readGpuPercent(text)).toBe(percent);
  });
});

describe('whatever a machine says', () => {
  const sane = (value: number | null): void => {
    if (value === null) return;
    expect(value).toBeGreaterThanOrEqual(0);
    expect(value).toBeLessThanOrEqual(100);
    expect(Math.round(value * 10) / 10).toBe(value);
  };

  it('a percentage is 0 to 100 with one decimal, or nothing', () => {
    fc.assert(fc.property(fc.double(), fc.double(), (part, whole) => sane(percentOf(part, whole))));
  });

  it('no text breaks a parser', () => {
    const noise = fc.oneof(fc.string(), fc.stringMatching(/^(cpu|MemTotal|MemAvailable)?[: 0-9kB\n.]*$/));
    fc.assert(
      fc.property(noise, (text) => {
        sane(readGpuPercent(text));
        sane(readMemoryPercent(text));
        const times = readCpuTimes(text);
        if (times !== null) expect(times.busy).toBeLessThanOrEqual(times.total);
      }),
    );
  });

  it('times that are written are read back', () => {
    const counter = fc.nat({ max: 2 ** 40 });
    fc.assert(
      fc.property(fc.array(counter, { minLength: 8, maxLength: 10 }), (numbers) => {
        const counted = numbers.slice(0, 8);
        const total = counted.reduce((sum, each) => sum + each, 0);
        const busy = total - (counted[3] ?? 0) - (counted[4] ?? 0);
        expect(readCpuTimes(`cpu  ${numbers.join(' ')}\ncpu0 1 2 3 4\n`)).toEqual({ busy, total });
      }),
    );
  });
});
