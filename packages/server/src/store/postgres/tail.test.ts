import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { LogRecord } from '../ports/log.ts';
import { createTail } from './tail.ts';

const record = (offset: number, body = 'x', partition = 1): LogRecord => ({
  partition,
  offset,
  kind: 'envelope',
  receivedAt: 1,
  key: 'd',
  traceparent: null,
  context: null,
  body,
  epoch: 'e',
});

const offsets = (records: readonly LogRecord[] | null): number[] | null =>
  records === null ? null : records.map((r) => r.offset);

describe('the tail of the log', () => {
  test('keeps nothing of a partition that nobody reads, and what comes after the first read', () => {
    const tail = createTail();
    tail.add('e', [record(1)]);
    expect(tail.read(1, 0, 10, 100)).toBeNull();
    tail.add('e', [record(2), record(3)]);
    expect(offsets(tail.read(1, 1, 10, 100))).toEqual([2, 3]);
    expect(tail.read(1, 3, 10, 100)).toBeNull();
  });

  test('ends before a gap, and has nothing where the next record is not here', () => {
    const tail = createTail();
    tail.read(1, 0, 10, 100);
    tail.add('e', [record(2), record(4), record(3), record(6)]);
    expect(tail.read(1, 0, 10, 100)).toBeNull();
    expect(offsets(tail.read(1, 1, 10, 100))).toEqual([2, 3, 4]);
  });

  test('keeps to the bounds of the read and always brings one record', () => {
    const tail = createTail();
    tail.read(1, 0, 10, 100);
    tail.add('e', [record(1, 'x'.repeat(60)), record(2, 'x'.repeat(60)), record(3)]);
    expect(offsets(tail.read(1, 0, 2, 1000))).toEqual([1, 2]);
    expect(offsets(tail.read(1, 0, 10, 100))).toEqual([1, 2]);
    expect(offsets(tail.read(1, 0, 10, 10))).toEqual([1]);
  });

  test('forgets everything when the store’s epoch changes, and keeps nothing without one', () => {
    const tail = createTail();
    tail.read(1, 0, 10, 100);
    tail.add('e', [record(1)]);
    tail.trust('f');
    expect(tail.read(1, 0, 10, 100)).toBeNull();
    tail.add('', [record(1)]);
    expect(tail.read(1, 0, 10, 100)).toBeNull();
  });

  test('forgets a partition that holds too much, until it is read again', () => {
    const tail = createTail();
    tail.read(1, 0, 10, 100);
    for (let offset = 1; offset <= 1001; offset += 1) tail.add('e', [record(offset)]);
    expect(tail.read(1, 0, 10, 100)).toBeNull();
    tail.add('e', [record(1002)]);
    expect(offsets(tail.read(1, 1001, 10, 100))).toEqual([1002]);
    tail.add('e', [record(1003, 'x'.repeat(1_048_577))]);
    expect(tail.read(1, 1002, 10, 100)).toBeNull();
  });

  test('property: a reader gets every record of the log once and in order, whoever appended what and told when', () => {
    const step = fc.record({
      own: fc.boolean(),
      count: fc.integer({ min: 1, max: 4 }),
      late: fc.boolean(),
      read: fc.boolean(),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), fc.integer({ min: 1, max: 5 }), (steps, limit) => {
        const tail = createTail();
        const log: LogRecord[] = [];
        const late: LogRecord[][] = [];
        const seen: number[] = [];
        const read = (): void => {
          const position = seen.at(-1) ?? 0;
          const found = tail.read(1, position, limit, 1000) ?? log.slice(position, position + limit);
          seen.push(...found.map((r) => r.offset));
        };
        for (const { own, count, late: isLate, read: reads } of steps) {
          const added = Array.from({ length: count }, (_, i) => record(log.length + 1 + i));
          log.push(...added);
          if (own && isLate) late.push(added);
          else if (own) tail.add('e', added);
          if (reads) read();
          if (!isLate) for (const batch of late.splice(0)) tail.add('e', batch);
        }
        for (let i = 0; i <= log.length; i += 1) read();
        expect(seen).toEqual(log.map((r) => r.offset));
      }),
    );
  });
});
