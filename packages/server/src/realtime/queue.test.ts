import { describe, expect, it, vi } from 'vitest';
import { ViewerQueue } from './queue.ts';
import { createScriptedSink } from './scripted-sink.suite.ts';
import { textFrame } from './frame.ts';

const limits = { socketBytes: 1000, messages: 20, bytes: 5000 };
const frame = (n: number, size = 98): Buffer =>
  textFrame(JSON.stringify({ type: 'm', n, pad: '' }).replace('""', `"${'x'.repeat(Math.max(0, size - 24))}"`));
const numbers = (sink: ReturnType<typeof createScriptedSink>): unknown[] =>
  sink.messages().map((message) => message['n']);

describe('queue of a viewer', () => {
  it('writes at once while the socket has room, the very bytes it was given', () => {
    const sink = createScriptedSink();
    const queue = new ViewerQueue(sink, limits, () => undefined);
    const bytes = frame(1);
    queue.push('alerts', bytes);
    expect(sink.writes[0]).toBe(bytes);
    expect(queue.empty).toBe(true);
  });

  it('keeps at most the limit in the socket and goes on when it drains, in order', () => {
    const sink = createScriptedSink(true);
    const queue = new ViewerQueue(sink, limits, () => undefined);
    for (let n = 0; n < 20; n++) queue.push('alerts', frame(n));
    expect(sink.writableLength).toBeLessThanOrEqual(1000);
    expect(queue.bytes).toBeGreaterThan(0);
    sink.drain();
    expect(sink.writableLength).toBeLessThanOrEqual(1000);
    sink.drain();
    sink.drain();
    expect(numbers(sink)).toEqual(Array.from({ length: 20 }, (_, n) => n));
    expect([queue.empty, queue.bytes]).toEqual([true, 0]);
  });

  it('lets several waiting frames leave in one write', () => {
    const sink = createScriptedSink(true);
    const queue = new ViewerQueue(sink, limits, () => undefined);
    for (let n = 0; n < 14; n++) queue.push('alerts', frame(n));
    const before = sink.writes.length;
    sink.drain();
    expect(sink.writes.length).toBe(before + 1);
  });

  it('sends waiting commands before waiting alerts', () => {
    const sink = createScriptedSink(true);
    const queue = new ViewerQueue(sink, limits, () => undefined);
    queue.push('alerts', frame(0, 990));
    queue.push('alerts', frame(4));
    queue.push('commands', frame(5));
    sink.drain();
    expect(numbers(sink)).toEqual([0, 5, 4]);
    expect(queue.bytes).toBe(0);
  });

  it('writes one frame over the limit only into an empty socket', () => {
    const sink = createScriptedSink(true);
    const queue = new ViewerQueue(sink, limits, () => undefined);
    queue.push('alerts', frame(0));
    queue.push('alerts', frame(1, 3000));
    expect(numbers(sink)).toEqual([0]);
    sink.drain();
    expect(numbers(sink)).toEqual([0, 1]);
  });

  it('overflows once when too many messages or bytes wait, lets go of everything, and takes nothing more', () => {
    for (const size of [60, 900]) {
      const sink = createScriptedSink(true);
      const overflow = vi.fn();
      const queue = new ViewerQueue(sink, limits, overflow);
      for (let n = 0; n < 60; n++) queue.push('alerts', frame(n, size));
      expect(overflow).toHaveBeenCalledTimes(1);
      expect([queue.bytes, queue.empty]).toEqual([0, true]);
      const written = sink.writes.length;
      sink.drain();
      expect(sink.writes.length).toBe(written);
    }
  });

  it('takes what is offered at once or not at all, and says when there is room again', () => {
    const sink = createScriptedSink(true);
    const queue = new ViewerQueue(sink, limits, () => undefined);
    expect([queue.offer(frame(1, 600)), queue.offer(frame(2, 600))]).toEqual([true, false]);
    expect([queue.hasRoom(300), queue.hasRoom(600), queue.empty]).toEqual([true, false, true]);
    const room = vi.fn();
    queue.whenDrained(room);
    queue.push('alerts', frame(3, 600));
    expect([queue.offer(frame(4, 10)), room.mock.calls.length]).toEqual([false, 0]);
    sink.drain();
    expect(room).toHaveBeenCalledTimes(1);
    expect(numbers(sink)).toEqual([1, 3]);
    queue.end();
    expect([queue.offer(frame(5)), queue.hasRoom(1)]).toEqual([false, false]);
  });
});
