import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createQueue, type Entry } from './queue.ts';

let sequence = 0;
function entry(urgent: boolean, bytes = 1): Entry<null> {
  sequence += 1;
  const id = `e${sequence}`;
  return { id, sequence, urgent, count: 1, bytes, where: null, state: 'waiting', attempts: 0, notBefore: 0 };
}

describe('the queue', () => {
  it('hands out urgent ones first, each lane in the order of reports', () => {
    const queue = createQueue<null>({ bytes: 100, envelopes: 100 });
    const [t1, u1, t2, u2] = [entry(false), entry(true), entry(false), entry(true)];
    for (const each of [t1, u1, t2, u2]) queue.add(each);
    expect([1, 2, 3, 4, 5].map((now) => queue.take(now)?.id)).toEqual([u1.id, u2.id, t1.id, t2.id, undefined]);
  });

  it('lets others pass one that is put off, and hands it out when it is due', () => {
    const queue = createQueue<null>({ bytes: 100, envelopes: 100 });
    const [first, second] = [entry(false), entry(false)];
    queue.add(first);
    queue.add(second);
    expect(queue.take(0)).toBe(first);
    queue.putBack(first, 50);
    expect(queue.take(0)).toBe(second);
    expect(queue.take(49)).toBeNull();
    expect(queue.earliest()).toBe(50);
    expect(queue.take(50)).toBe(first);
    expect(queue.earliest()).toBeNull();
  });

  it('drops the oldest telemetry first, urgent ones only when no telemetry is left, and never what is taken', () => {
    const queue = createQueue<null>({ bytes: 1000, envelopes: 4 });
    const [u1, t1, t2, u2] = [entry(true), entry(false), entry(false), entry(true)];
    for (const each of [u1, t1, t2, u2]) queue.add(each);
    const more = (urgent: boolean): string[] => {
      queue.add(entry(urgent));
      return queue.trim().map(({ id }) => id);
    };
    expect(more(true)).toEqual([t1.id]);
    expect(more(true)).toEqual([t2.id]);
    expect(queue.take(0)).toBe(u1);
    expect(more(true)).toEqual([u2.id]);
    expect(queue.fits({ count: 1, bytes: 1 }, true)).toBe(true);
    expect(queue.fits({ count: 4, bytes: 4 }, true)).toBe(false);
    expect(queue.fits({ count: 1, bytes: 1 }, false)).toBe(false);
  });

  it('keeps its sums and bounds whatever happens, and says beforehand whether something fits', () => {
    const steps = fc.array(
      fc.record({
        what: fc.constantFrom('add', 'add', 'take', 'back', 'settle'),
        urgent: fc.boolean(),
        bytes: fc.nat(30),
      }),
      { maxLength: 200 },
    );
    fc.assert(
      fc.property(steps, (list) => {
        const queue = createQueue<null>({ bytes: 100, envelopes: 8 });
        const alive = new Set<Entry<null>>();
        const taken: Entry<null>[] = [];
        for (const { what, urgent, bytes } of list) {
          if (what === 'add' && queue.fits({ count: 1, bytes }, urgent)) {
            const added = entry(urgent, bytes);
            queue.add(added);
            alive.add(added);
            for (const victim of queue.trim()) {
              expect(victim).not.toBe(added);
              expect(taken).not.toContain(victim);
              expect(
                victim.urgent && [...alive].some((one) => !one.urgent && one.state === 'waiting' && one !== added),
              ).toBe(false);
              alive.delete(victim);
            }
          }
          if (what === 'take') {
            const next = queue.take(0);
            if (next !== null) taken.push(next);
          }
          const held = what === 'back' || what === 'settle' ? taken.shift() : undefined;
          if (held !== undefined && what === 'back') queue.putBack(held, bytes % 3 === 0 ? 0 : bytes);
          if (held !== undefined && what === 'settle') {
            queue.remove(held);
            alive.delete(held);
          }
          const known = [...alive];
          expect(new Set(queue.entries())).toEqual(alive);
          const waiting = known.filter(({ state }) => state === 'waiting').map(({ notBefore }) => notBefore);
          expect(queue.earliest()).toBe(waiting.length === 0 ? null : Math.min(...waiting));
          expect(queue.count()).toBe(known.length);
          expect(queue.bytes()).toBe(known.reduce((sum, one) => sum + one.bytes, 0));
          expect(queue.count()).toBeLessThanOrEqual(8);
          expect(queue.bytes()).toBeLessThanOrEqual(100);
        }
      }),
    );
  });

  it('works off a long line without looking at what is gone again and again', () => {
    const queue = createQueue<null>({ bytes: 1e9, envelopes: 1e6 });
    for (let each = 0; each < 20_000; each += 1) queue.add(entry(false));
    let last = 0;
    for (let next = queue.take(0); next !== null; next = queue.take(0)) {
      expect(next.sequence).toBeGreaterThan(last);
      last = next.sequence;
      queue.remove(next);
    }
    expect(queue.count()).toBe(0);
  });
});
