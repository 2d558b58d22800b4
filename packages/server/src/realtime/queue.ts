/**
 * What waits for one viewer, in lanes: commands first, then alerts, then telemetry (only the latest for each device).
 *
 * Guarantees: order within a lane; at most `socketBytes` wait in the socket (one larger frame only into an empty one);
 * what is pushed while the socket has room is written at once, and frames that leave together leave in one write.
 * Bounds: more than `messages` or `bytes` waiting in commands and alerts is an overflow: the queue empties itself, calls
 * `onOverflow` once and takes nothing more. Telemetry is bounded by its devices (`messages` at most, the oldest goes).
 * A queue with nothing in it holds no memory of its own and no timer.
 */
import type { Sink } from './sink.ts';

/** Lanes in which order is kept. */
export type Lane = 'commands' | 'alerts';

/** Bounds of a queue. */
export interface QueueLimits {
  readonly socketBytes: number;
  readonly messages: number;
  readonly bytes: number;
}

/** The queue of one viewer. */
export interface ViewerQueue {
  /** Bytes that wait here (not in the socket). */
  readonly bytes: number;
  /** True when nothing waits here. */
  readonly empty: boolean;
  /** Adds frames that hold `messages` messages; answers false when this was too much. */
  push(lane: Lane, frames: Buffer, messages?: number): boolean;
  /** Replaces what waits for this device. */
  pushTelemetry(device: string, frame: Buffer): void;
  /** Calls `callback` once, when nothing waits here any more; at once when nothing does. */
  whenEmpty(callback: () => void): void;
  /** Forgets everything; later pushes do nothing. */
  end(): void;
}

interface Item {
  readonly bytes: Buffer;
  readonly messages: number;
}

/** Creates the queue of one viewer. */
export function createQueue(sink: Sink, limits: QueueLimits, onOverflow: () => void): ViewerQueue {
  const lanes: Record<Lane, Item[]> = { commands: [], alerts: [] };
  let telemetry: Map<string, Buffer> | null = null;
  let bytes = 0;
  let messages = 0;
  let awaiting = false;
  let ended = false;
  let onEmpty: (() => void) | null = null;

  const fits = (length: number): boolean =>
    sink.writableLength === 0 || sink.writableLength + length <= limits.socketBytes;
  const nothing = (): boolean => lanes.commands.length === 0 && lanes.alerts.length === 0 && telemetry === null;

  function end(): void {
    ended = true;
    lanes.commands = [];
    lanes.alerts = [];
    telemetry = null;
    bytes = 0;
    messages = 0;
    onEmpty = null;
  }

  /** Writes from the front of a lane; answers false when the socket is full. */
  function flushLane(lane: Lane): boolean {
    const items = lanes[lane];
    let sent = 0;
    for (const item of items) {
      if (!fits(item.bytes.length)) break;
      sink.write(item.bytes);
      bytes -= item.bytes.length;
      messages -= item.messages;
      sent++;
    }
    if (sent < items.length) {
      lanes[lane] = items.slice(sent);
      return false;
    }
    lanes[lane] = [];
    return true;
  }

  function flushTelemetry(): boolean {
    if (telemetry === null) return true;
    for (const [device, frame] of telemetry) {
      if (!fits(frame.length)) return false;
      sink.write(frame);
      bytes -= frame.length;
      telemetry.delete(device);
    }
    telemetry = null;
    return true;
  }

  function flush(): void {
    if (ended || !sink.open) return;
    sink.cork();
    const done = flushLane('commands') && flushLane('alerts') && flushTelemetry();
    sink.uncork();
    if (!done) {
      awaitDrain();
    } else if (onEmpty !== null) {
      const callback = onEmpty;
      onEmpty = null;
      callback();
    }
  }

  function awaitDrain(): void {
    if (awaiting) return;
    awaiting = true;
    sink.whenDrained(() => {
      awaiting = false;
      flush();
    });
  }

  return {
    get bytes(): number {
      return bytes;
    },
    get empty(): boolean {
      return nothing();
    },
    push(lane, frames, count = 1) {
      if (ended || !sink.open) return false;
      if (nothing() && fits(frames.length)) {
        sink.write(frames);
        return true;
      }
      if (messages + count > limits.messages || bytes + frames.length > limits.bytes) {
        end();
        onOverflow();
        return false;
      }
      lanes[lane].push({ bytes: frames, messages: count });
      bytes += frames.length;
      messages += count;
      awaitDrain();
      return true;
    },
    pushTelemetry(device, frame) {
      if (ended || !sink.open) return;
      if (nothing() && fits(frame.length)) {
        sink.write(frame);
        return;
      }
      telemetry ??= new Map();
      const before = telemetry.get(device);
      if (before !== undefined) {
        bytes -= before.length;
        telemetry.delete(device);
      } else if (telemetry.size >= limits.messages) {
        const oldest = telemetry.entries().next().value;
        if (oldest !== undefined) {
          bytes -= oldest[1].length;
          telemetry.delete(oldest[0]);
        }
      }
      telemetry.set(device, frame);
      bytes += frame.length;
      awaitDrain();
    },
    whenEmpty(callback) {
      if (ended) return;
      if (nothing()) callback();
      else onEmpty = callback;
    },
    end,
  };
}
