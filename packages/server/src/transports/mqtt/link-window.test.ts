import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { createRoom, type Room } from './link-room.ts';
import { createWindow, type Window } from './link-window.ts';
import type { MqttVerdict } from './message.ts';

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

const ACKNOWLEDGE: MqttVerdict = { kind: 'acknowledge' };
const later = (retryAfterMs: number): MqttVerdict => ({ kind: 'later', retryAfterMs });

interface Bench {
  readonly window: Window;
  readonly room: Room;
  /** `<topic> <payload>` in the order in which `take` was asked. */
  readonly asked: string[];
  /** Answers the oldest question about it. */
  answer(what: string, verdict?: MqttVerdict): Promise<void>;
  readonly acks: number[];
  readonly dropped: () => number;
  /** Brings messages of QoS 1 with these packet ids: payload is the id. */
  bring(topic: string, ...ids: number[]): boolean;
}

function bench(most = { messages: 100, bytes: 1_000_000 }, room: Room = createRoom(most)): Bench {
  const asked: string[] = [];
  const open: { what: string; resolve: (verdict: MqttVerdict) => void }[] = [];
  const acks: number[] = [];
  let dropped = 0;
  const window = createWindow({
    room,
    take: ({ topic, payload }) =>
      new Promise((resolve) => {
        const what = `${topic} ${payload.toString('utf8')}`;
        asked.push(what);
        open.push({ what, resolve });
      }),
    acknowledge: (packetId) => void acks.push(packetId),
    dropped: () => void (dropped += 1),
    laneOf: (topic) => topic.slice(0, 1),
    monotonic: () => performance.now(),
  });
  return {
    window,
    room,
    asked,
    acks,
    dropped: () => dropped,
    async answer(what, verdict = ACKNOWLEDGE) {
      const at = open.findIndex((question) => question.what === what);
      open.splice(at, 1)[0]?.resolve(verdict);
      await vi.advanceTimersByTimeAsync(0);
    },
    bring(topic, ...ids) {
      const message = (id: number) => ({ topic, payload: Buffer.from(String(id)), traceparent: null });
      return ids.map((id) => window.arrive({ message: message(id), packetId: id, skip: false })).every(Boolean);
    },
  };
}

test('many are on their way at once, and are acknowledged in the order of their arrival', async () => {
  const { bring, asked, answer, acks, window } = bench();
  bring('a', 1, 2);
  bring('b', 3);
  expect(asked).toEqual(['a 1', 'a 2', 'b 3']);
  await answer('b 3');
  await answer('a 2');
  expect(acks).toEqual([]);
  expect(window.unacknowledged()).toBe(3);
  await answer('a 1');
  expect(acks).toEqual([1, 2, 3]);
  expect(window.unacknowledged()).toBe(0);
});

test('one that must wait is tried again after its delay until it is taken, and never acknowledged before', async () => {
  const { bring, asked, answer, acks } = bench();
  bring('a', 1);
  await answer('a 1', later(500));
  await vi.advanceTimersByTimeAsync(499);
  expect(asked).toEqual(['a 1']);
  await vi.advanceTimersByTimeAsync(1);
  expect(asked).toEqual(['a 1', 'a 1']);
  await answer('a 1', later(500));
  await vi.advanceTimersByTimeAsync(500);
  expect(acks).toEqual([]);
  await answer('a 1');
  expect(acks).toEqual([1]);
});

test('it holds back later ones of its device, which then follow one after the other, and none of others', async () => {
  const { bring, asked, answer, acks } = bench();
  bring('a', 1, 2);
  await answer('a 2', later(100));
  await answer('a 1', later(300));
  bring('a/other', 3);
  bring('b', 4);
  expect(asked).toEqual(['a 1', 'a 2', 'b 4']);
  await answer('b 4');
  await vi.advanceTimersByTimeAsync(100);
  expect(asked.slice(3)).toEqual(['a 1']);
  await answer('a 1');
  expect(asked.slice(4)).toEqual(['a 2']);
  await answer('a 2');
  await answer('a/other 3');
  expect(acks).toEqual([1, 2, 3, 4]);
  bring('a', 5);
  expect(asked.at(-1)).toBe('a 5');
});

test('one that comes back while an earlier of its device is tried again does not overtake it', async () => {
  const { bring, asked, answer, acks } = bench();
  bring('a', 1, 2);
  await answer('a 1', later(50));
  await vi.advanceTimersByTimeAsync(50);
  await answer('a 2', later(50));
  await vi.advanceTimersByTimeAsync(1000);
  expect(asked).toEqual(['a 1', 'a 2', 'a 1']);
  await answer('a 1');
  expect(asked.at(-1)).toBe('a 2');
  await answer('a 2');
  expect(acks).toEqual([1, 2]);
});

test('a take that rejects is one that says later', async () => {
  const acks: number[] = [];
  let calls = 0;
  const window = createWindow({
    room: createRoom({ messages: 9, bytes: 9999 }),
    take: async () => {
      calls += 1;
      if (calls === 1) throw new Error('no');
      return ACKNOWLEDGE;
    },
    acknowledge: (packetId) => void acks.push(packetId),
    dropped: () => undefined,
    laneOf: (topic) => topic,
    monotonic: () => 0,
  });
  window.arrive({ message: { topic: 'a', payload: Buffer.alloc(1), traceparent: null }, packetId: 1, skip: false });
  await vi.advanceTimersByTimeAsync(2000);
  expect(acks).toEqual([1]);
});

test('one to be skipped is acknowledged in its turn without being taken', async () => {
  const { bring, asked, answer, acks, window } = bench();
  bring('a', 1);
  const message = { topic: 'a', payload: Buffer.from('2'), traceparent: null };
  window.arrive({ message, packetId: 2, skip: true });
  expect(acks).toEqual([]);
  await answer('a 1');
  expect(acks).toEqual([1, 2]);
  expect(asked).toEqual(['a 1']);
});

test('a message of QoS 0 is tried once, and dropped when it would have to wait', async () => {
  const { answer, acks, dropped, window, room } = bench();
  const message = { topic: 'a', payload: Buffer.from('0'), traceparent: null };
  window.arrive({ message, packetId: null, skip: false });
  await answer('a 0', later(10));
  await vi.advanceTimersByTimeAsync(1000);
  expect([dropped(), acks.length, room.messages()]).toEqual([1, 0, 0]);
});

test('the room counts messages until their PUBACK, by number and by bytes', async () => {
  const few = bench({ messages: 2, bytes: 1_000_000 });
  expect(few.bring('a', 1)).toBe(true);
  expect(few.bring('a', 2)).toBe(false);
  let again = 0;
  few.room.whenRoom(() => void (again += 1));
  await few.answer('a 2');
  expect(again).toBe(0);
  await few.answer('a 1');
  expect(again).toBe(1);
  const small = bench({ messages: 100, bytes: 500 });
  expect(small.bring('a', 1)).toBe(true);
  expect(small.bring('a', 2)).toBe(false);
});

test('after the end of the connection nothing is acknowledged or tried again; what is at take keeps its room until it is back', async () => {
  const { bring, asked, answer, acks, window, room } = bench();
  bring('a', 1, 2, 3);
  bring('b', 4);
  await answer('b 4');
  await answer('a 1', later(100));
  window.close();
  expect(room.messages()).toBe(2);
  await vi.advanceTimersByTimeAsync(1000);
  await answer('a 2');
  await answer('a 3', later(1));
  await vi.advanceTimersByTimeAsync(1000);
  expect([asked.length, acks.length, room.messages()]).toEqual([4, 0, 0]);
});

test('settling waits for what is at take, acknowledges it, and tries nothing again', async () => {
  const { bring, asked, answer, acks, window } = bench();
  bring('a', 1);
  bring('b', 2, 3);
  await answer('b 3', later(10));
  let settled = false;
  void window.settle().then(() => {
    settled = true;
  });
  await answer('a 1');
  expect(settled).toBe(false);
  await answer('b 2');
  expect(settled).toBe(true);
  await vi.advanceTimersByTimeAsync(1000);
  expect(acks).toEqual([1, 2]);
  expect(asked).toEqual(['a 1', 'b 2', 'b 3']);
});
