import fc from 'fast-check';
import { beforeEach, describe, expect, test } from 'vitest';
import type { Refusal } from '@tocsin/protocol/errors';
import { createShedder, nextCapacity, type Shedder, TARGET_MS } from './shed.ts';
import { type Draft, newDraft } from './stage.ts';

let now = 0;
const draft = (profile: 'seismic' | 'host' = 'host', body = ''): Draft => {
  const made = newDraft('http', 'envelope', { traceparent: null, apiKey: 'k', body }, 0);
  made.device = { profile } as Draft['device'];
  return made;
};

/** A row that does `perSecond` envelopes in turn, first come first served, driven by hand. */
function row(perSecond: number): {
  shedder: Shedder;
  readonly waiting: Draft[];
  refused: number;
  arrive(count: number, profile?: 'seismic' | 'host'): number;
  pass(ms: number): void;
} {
  const waiting: Draft[] = [];
  let delayed: { at: number; work: () => void }[] = [];
  let owed = 0;
  const self = {
    shedder: createShedder({
      monotonic: () => now,
      later: (work, ms) => void delayed.push({ at: now + ms, work }),
      shed: () => void (self.refused += 1),
    }),
    waiting,
    refused: 0,
    arrive(count: number, profile: 'seismic' | 'host' = 'host') {
      let passed = 0;
      for (let i = 0; i < count; i += 1) {
        const one = draft(profile);
        if (self.shedder.stage(one) !== null) continue;
        waiting.push(one);
        passed += 1;
      }
      return passed;
    },
    pass(ms: number) {
      now += ms;
      const due = delayed.filter(({ at }) => at <= now);
      if (due.length > 0) delayed = delayed.filter(({ at }) => at > now);
      for (const { work } of due) work();
      owed += (perSecond * ms) / 1000;
      for (; owed >= 1 && waiting.length > 0; owed -= 1) {
        const done = waiting.shift();
        if (done !== undefined) self.shedder.finished(done, true);
      }
      if (waiting.length === 0) owed = 0;
    },
  };
  return self;
}

/**
 * Envelopes a second that end in a row where each takes `ms` and at most 3,000 a second end: after calm and a flood, with
 * 500 a second more than `offered` coming all the while.
 */
function afterOverload(ms: number, offered: number): number {
  const shedder = createShedder({ monotonic: () => now, later: () => undefined, shed: () => undefined });
  let waiting: { draft: Draft; since: number }[] = [];
  const step = (arriving: number): number => {
    for (let i = 0; i < arriving; i += 1) {
      const one = draft();
      if (shedder.stage(one) === null) waiting.push({ draft: one, since: now });
    }
    now += 10;
    const ripe = waiting.filter(({ since }) => now - since >= ms).slice(0, 30);
    waiting = waiting.filter((one) => !ripe.includes(one));
    for (const one of ripe) shedder.finished(one.draft, true);
    return ripe.length;
  };
  for (let i = 0; i < 2000; i += 1) step(20);
  for (let i = 0; i < 400; i += 1) step(200);
  for (let i = 0; i < 1000; i += 1) step(offered / 100 + 5);
  let done = 0;
  for (let i = 0; i < 100; i += 1) done += step(offered / 100 + 5);
  return done;
}

describe('load shedding', () => {
  beforeEach(() => {
    now = 1000;
  });

  test('a load that the row can carry, and a burst that it works off, are never refused', () => {
    const self = row(5000);
    for (let i = 0; i < 200; i += 1) {
      self.arrive(40);
      self.pass(10);
    }
    self.arrive(2000);
    for (let i = 0; i < 200; i += 1) {
      self.arrive(20);
      self.pass(10);
    }
    expect(self.refused).toBe(0);
  });

  test('under ten times the load what is on its way stays small, and all of the capacity is used', () => {
    const self = row(5000);
    let done = 0;
    for (let i = 0; i < 1000; i += 1) {
      self.arrive(500);
      const before = self.waiting.length;
      self.pass(10);
      if (i >= 500) {
        expect(self.waiting.length).toBeLessThan(5000);
        expect(self.waiting.length).toBeGreaterThan(0);
        done += before - self.waiting.length;
      }
    }
    expect(done).toBe(25_000);
    expect(self.refused).toBeGreaterThan(400_000);
  });

  test('seismic envelopes still pass where those of hosts are refused', () => {
    const self = row(5000);
    for (let i = 0; i < 300; i += 1) {
      self.arrive(500);
      self.pass(10);
    }
    expect(self.arrive(500)).toBeLessThan(500);
    expect(self.arrive(500, 'seismic')).toBe(500);
  });

  test('a store that takes long for each commit is not held to less than it can do', () => {
    // 3,000 a second, each 300 ms on its way, however few there are: 900 have to be.
    expect(afterOverload(300, 3000)).toBeGreaterThan(2500);
  });

  test('when the flood is over, everything passes again within two seconds', () => {
    const self = row(5000);
    for (let i = 0; i < 300; i += 1) {
      self.arrive(500);
      self.pass(10);
    }
    for (let i = 0; i < 200; i += 1) {
      self.arrive(10);
      self.pass(10);
    }
    expect(self.arrive(2000)).toBe(2000);
  });

  test('overload does not outlast a pause: hosts that all speak once a minute and never repeat are not refused again', () => {
    const self = row(5000);
    for (let i = 0; i < 305; i += 1) {
      self.arrive(500);
      self.pass(10);
    }
    // All that waits ends within the interval, and nobody comes who could end it.
    for (const one of self.waiting.splice(0)) self.shedder.finished(one, true);
    now += 60_000;
    expect(self.arrive(1000)).toBe(1000);
  });

  test('after a store that stood still, hosts do not take the places of seismic envelopes', () => {
    const self = row(5000);
    for (let i = 0; i < 300; i += 1) {
      self.arrive(500);
      self.pass(10);
    }
    for (const one of self.waiting.splice(0)) self.shedder.finished(one, false);
    for (let i = 0; i < 1000; i += 1) {
      for (let n = 0; n < 50; n += 1) void self.shedder.stage(draft());
      now += 10;
    }
    expect(self.shedder.stage(draft())).not.toBeNull();
    expect(self.arrive(500, 'seismic')).toBe(500);
  });

  test('large envelopes do not wait for their refusal beyond a bound of bytes', () => {
    const self = row(5000);
    for (let i = 0; i < 300; i += 1) {
      self.arrive(500);
      self.pass(10);
    }
    now += 4100;
    self.pass(0);
    self.arrive(12_000);
    const large = 'x'.repeat(262_144);
    const answers = Array.from({ length: 100 }, () => self.shedder.stage(draft('host', large)));
    expect(answers.filter((answer) => answer instanceof Promise).length).toBe(64);
    expect(answers).not.toContain(null);
  });

  test('refusals leave at a pace of 2,000 a second, none later than four seconds, and name one to four seconds in turn', async () => {
    const self = row(1000);
    for (let i = 0; i < 300; i += 1) {
      self.arrive(500);
      self.pass(10);
    }
    self.pass(10_000);
    self.arrive(20_000);
    const began = now;
    const told: number[] = [];
    const answers = Array.from({ length: 10_000 }, async () => {
      const refusal = (await self.shedder.stage(draft())) as Refusal;
      told.push(now - began);
      return refusal;
    });
    for (let i = 0; i < 410; i += 1) {
      self.pass(10);
      await Promise.resolve();
      await Promise.resolve();
    }
    const refusals = await Promise.all(answers);
    expect(refusals.every(({ code }) => code === 'overloaded')).toBe(true);
    expect(new Set(refusals.map(({ retryAfterMs }) => retryAfterMs))).toEqual(new Set([1000, 2000, 3000, 4000]));
    expect(Math.max(...told)).toBeLessThanOrEqual(4020);
    expect(told.filter((ms) => ms <= 1000).length).toBeLessThanOrEqual(2100);
  });

  test('a draft that was refused elsewhere frees its place, one that never came here takes none', () => {
    const { shedder } = row(1000);
    const passed = draft();
    expect(shedder.stage(passed)).toBeNull();
    shedder.finished(passed, false);
    shedder.finished(draft(), false);
    for (let i = 0; i < 10_000; i += 1) expect(shedder.stage(draft())).toBeNull();
    expect(shedder.stage(draft())).not.toBeNull();
  });

  test('property: overload begins only with a standing queue, and ends with the first interval without a refusal', () => {
    const seen = fc.record({
      done: fc.nat(10_000),
      least: fc.double({ min: 0, max: 5000, noNaN: true }),
      refused: fc.nat(1000),
    });
    fc.assert(
      fc.property(fc.option(fc.double({ min: 0, max: 1e5, noNaN: true })), seen, (before, interval) => {
        const next = nextCapacity(before, interval, 0.5);
        if (before === null) expect(next !== null).toBe(interval.done >= 20 && interval.least > TARGET_MS);
        else expect(next === null).toBe(interval.refused === 0);
        if (next !== null) expect(next).toBeLessThanOrEqual(Math.max(before ?? 0, interval.done * 2) + 1e-6);
      }),
    );
  });
});
