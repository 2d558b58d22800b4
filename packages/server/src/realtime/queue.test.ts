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

  it('sends waiting commands before waiting alerts, and telemetry last, only the latest of each device', () => {
    const sink = createScriptedSink(true);
    const queue = new ViewerQueue(sink, limits, () => undefined);
    queue.push('alerts', frame(0, 990));
    queue.pushTelemetry('a', frame(1));
    queue.pushTelemetry('b', frame(2));
    queue.pushTelemetry('a', frame(3));
    queue.push('alerts', frame(4));
    queue.push('commands', frame(5));
    sink.drain();
    expect(numbers(sink)).toEqual([0, 5, 4, 2, 3]);
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

  it('bounds telemetry by devices, dropping the oldest', () => {
    const sink = createScriptedSink(true);
    const overflow = vi.fn();
    const queue = new ViewerQueue(sink, limits, overflow);
    queue.push('alerts', frame(0, 990));
    for (let n = 1; n <= 50; n++) queue.pushTelemetry(`d${n}`, frame(n, 30));
    for (let n = 0; n < 5; n++) sink.drain();
    expect(numbers(sink)).toEqual([0, ...Array.from({ length: 20 }, (_, n) => 31 + n)]);
    expect(overflow).not.toHaveBeenCalled();
  });
});
