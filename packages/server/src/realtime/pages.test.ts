import { describe, expect, it } from 'vitest';
import type { ChannelMessage, ChannelStore } from '../store/ports/channels.ts';
import { entryAt, createPageReader, RECOVERY_PAGE } from './pages.ts';

const message = (offset: number, body = '{}'): ChannelMessage => ({
  channel: 'alerts',
  offset,
  type: 'alert',
  zoneId: null,
  severity: 2,
  createdAt: 0,
  body,
});

interface Scripted extends ChannelStore {
  readonly reads: number[];
  head_: number;
  mostAtOnce: number;
  /** Lets reads go on, oldest first. */
  answer(): Promise<void>;
}

function scripted(head: number, body?: string): Scripted {
  const held: (() => void)[] = [];
  let open = 0;
  const store: Scripted = {
    reads: [],
    head_: head,
    mostAtOnce: 0,
    head: async (channel) => ({ channel, epoch: 'e', head: store.head_ }),
    async read(_channel, after, limit) {
      store.reads.push(after);
      const last = Math.min(after + limit, store.head_);
      open += 1;
      store.mostAtOnce = Math.max(store.mostAtOnce, open);
      await new Promise<void>((resolve) => held.push(resolve));
      open -= 1;
      return Array.from({ length: Math.max(0, last - after) }, (_, index) => message(after + 1 + index, body));
    },
    async answer() {
      held.shift()?.();
      for (let turn = 0; turn < 10; turn += 1) await Promise.resolve();
    },
  };
  return store;
}

async function drain(store: Scripted, done: Promise<unknown>): Promise<void> {
  let over = false;
  void done.then(() => {
    over = true;
  });
  while (!over) await store.answer();
}

describe('pages of the history', () => {
  it('are read once for viewers that stand anywhere in them, at the same time and later', async () => {
    const store = scripted(1000);
    const reader = createPageReader(store, 'alerts');
    const all = Array.from({ length: 500 }, (_, index) => reader.page(200 + (index % RECOVERY_PAGE)));
    await drain(store, Promise.all(all));
    for (const [index, page] of all.entries()) {
      const offset = 201 + (index % RECOVERY_PAGE);
      expect(entryAt(await page, offset)?.offset).toBe(offset);
    }
    expect(entryAt(await reader.page(250), 251)?.offset).toBe(251);
    expect(store.reads).toEqual([200]);
  });

  it('are read few at a time, however many are wanted', async () => {
    const store = scripted(10_000);
    const reader = createPageReader(store, 'alerts', { reads: 4, bytes: 1e9 });
    await drain(store, Promise.all(Array.from({ length: 100 }, (_, index) => reader.page(index * RECOVERY_PAGE))));
    expect(store.mostAtOnce).toBe(4);
    expect(new Set(store.reads).size).toBe(100);
    expect(store.reads).toHaveLength(100);
  });

  it('are kept up to a bound of bytes, the longest unused goes first', async () => {
    const store = scripted(1000, JSON.stringify('x'.repeat(1000)));
    const reader = createPageReader(store, 'alerts', { reads: 4, bytes: 250_000 });
    for (const after of [0, 100, 0, 200, 0, 100]) await drain(store, reader.page(after));
    expect(store.reads).toEqual([0, 100, 200, 100]);
  });

  it('that are not full yet are read again', async () => {
    const store = scripted(150);
    const reader = createPageReader(store, 'alerts');
    await drain(store, reader.page(120));
    store.head_ = 160;
    const page = reader.page(150);
    await drain(store, page);
    expect(entryAt(await page, 151)?.offset).toBe(151);
  });

  it('on their way that began too early for a message are read again for it', async () => {
    const store = scripted(150);
    const reader = createPageReader(store, 'alerts');
    const early = reader.page(120);
    store.head_ = 160;
    const late = reader.page(155);
    await drain(store, Promise.all([early, late]));
    expect(entryAt(await late, 156)?.offset).toBe(156);
    expect(store.reads).toEqual([100, 100]);
  });

  it('are forgotten when the history begins anew, those on their way too', async () => {
    const store = scripted(1000);
    const reader = createPageReader(store, 'alerts');
    await drain(store, reader.page(0));
    const old = reader.page(100);
    reader.clear();
    await drain(store, old);
    await drain(store, Promise.all([reader.page(0), reader.page(100)]));
    expect(store.reads).toEqual([0, 100, 0, 100]);
  });

  it('that cannot be read reject for all who wait, and are asked for again', async () => {
    let broken = true;
    const reader = createPageReader(
      {
        head: async (channel) => ({ channel, epoch: 'e', head: 100 }),
        async read(_channel, after) {
          if (broken) throw new Error('away');
          return [message(after + 1)];
        },
      },
      'alerts',
    );
    const both = await Promise.allSettled([reader.page(0), reader.page(0)]);
    expect(both.map(({ status }) => status)).toEqual(['rejected', 'rejected']);
    broken = false;
    expect(entryAt(await reader.page(0), 1)?.offset).toBe(1);
  });
});

describe('pages with a hole where viewers stand', () => {
  /** The history up to `oldest - 1` is gone. */
  function trimmed(oldest: number, head: number): ChannelStore & { reads: number } {
    const store = {
      reads: 0,
      head: async (channel: string) => ({ channel, epoch: 'e', head }),
      async read(_channel: string, after: number, limit: number) {
        store.reads += 1;
        await Promise.resolve();
        const first = Math.max(after + 1, oldest);
        return Array.from({ length: Math.max(0, Math.min(limit, head - first + 1)) }, (_, index) =>
          message(first + index, 'x'.repeat(1000)),
        );
      },
    };
    return store;
  }

  it('are read twice at most for all who stand there, not once for each', async () => {
    for (const head of [1000, 560]) {
      const store = trimmed(550, head);
      const reader = createPageReader(store, 'alerts');
      await Promise.all(Array.from({ length: 500 }, () => reader.page(510)));
      expect(store.reads).toBeLessThanOrEqual(2);
    }
  });

  it('leave the others in the memory that there is for pages', async () => {
    const store = trimmed(550, 2000);
    const reader = createPageReader(store, 'alerts', { reads: 4, bytes: 1_000_000 });
    await Promise.all(Array.from({ length: 50 }, () => reader.page(510)));
    await reader.page(700);
    store.reads = 0;
    await reader.page(700);
    expect(store.reads).toBe(0);
  });
});
