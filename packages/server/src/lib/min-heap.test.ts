import fc from 'fast-check';
import { expect, it } from 'vitest';
import { createMinHeap } from './min-heap.ts';

it('a heap gives what is in it in the order of keys, whatever is added, taken and replaced meanwhile', () => {
  const step = fc.oneof(
    fc.record({ do: fc.constant('add' as const), key: fc.integer({ min: 0, max: 50 }) }),
    fc.record({ do: fc.constant('take' as const) }),
    fc.record({ do: fc.constant('replace' as const), key: fc.integer({ min: 0, max: 50 }) }),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
      const heap = createMinHeap();
      let model: number[] = [];
      for (const next of steps) {
        if (next.do === 'add') {
          heap.add({ key: next.key, name: 'n' });
          model.push(next.key);
        } else if (model.length > 0) {
          model = model.toSorted((a, b) => a - b).slice(1);
          if (next.do === 'replace') model.push(next.key);
          heap.replaceTop(next.do === 'replace' ? { key: next.key, name: 'n' } : undefined);
        }
        expect(heap.size).toBe(model.length);
        expect(heap.top()?.key).toBe(model.length === 0 ? undefined : Math.min(...model));
      }
      heap.clear();
      expect([heap.size, heap.top()]).toEqual([0, undefined]);
    }),
  );
});
