/** What each stage of a frame's way costs by itself, on one core: no broker, no sockets, no database. */
import { createMeaning } from '@tocsin/server/app/meaning';
import { checkFrame, readFrame } from '@tocsin/server/ingest/frame';
import { newDraft } from '@tocsin/server/ingest/stage';
import { systemClock } from '@tocsin/server/lib/clock';
import { partitionOf } from '@tocsin/server/lib/partition';
import { parseFrame } from '@tocsin/server/profiles/host/frame';
import { createLiveHub } from '@tocsin/server/realtime/live-hub';
import { createLiveState } from '@tocsin/server/realtime/live-state';
import type { LogRecord } from '@tocsin/server/store/ports/log';
import { stateName, type StateEntry, workOff } from '@tocsin/server/workers/batch';
import { frameOf } from '@tocsin/protocol/frame';
import type { HostReading } from '@tocsin/protocol/envelope';
import type { ResultRow } from './table.ts';

const HOSTS = 10_000;
const ROUNDS = 5;
const PARTITIONS = 16;
const SETTINGS = {
  ...{ swarmSensors: 50, swarmWindowSeconds: 10, swarmCooldownSeconds: 60, liveReadingSeconds: 60 },
  ...{ cpuAlertPercent: 90, memoryAlertPercent: 95, diskAlertPercent: 95, gpuAlertPercent: null },
  ...{ pruneSeconds: 30, alertCooldownSeconds: 60 },
};

interface Frame {
  readonly id: string;
  readonly text: string;
}

/** Runs it; microseconds for a frame, beside JSON.parse of the same text. */
export async function costOfStages(): Promise<ResultRow[]> {
  const frames = Array.from({ length: HOSTS }, (_, host): Frame => {
    const id = `bench-${host}`;
    const numbers = `"cpu_percent":${(host % 800) / 10},"mem_percent":41.5,"disk_percent":63.2,"agent_mem_mb":42.125`;
    return { id, text: `{"device_id":"${id}","timestamp":1795176000,${numbers}}` };
  });
  const bare = best(() => frames.forEach(({ text }) => void JSON.parse(text)));
  const row = (what: string, ours: number): ResultRow => {
    return {
      what: `one core: ${what}`,
      ours,
      unit: 'µs',
      limit: bare,
      limitIs: 'JSON.parse of the frame alone',
      aim: '',
    };
  };
  return [
    row(
      'read and check a frame',
      best(() => frames.forEach(({ id, text }) => void parseFrame(text, id))),
    ),
    row(
      'the stages of ingest up to the log',
      best(() => frames.forEach(stages)),
    ),
    row('rules and rows of the worker', worker(frames)),
    row('the live board and one dashboard', await board(frames)),
  ];
}

/** Of some rounds over all frames the quickest, µs a frame. */
function best(round: () => void): number {
  let least = Infinity;
  for (let i = 0; i < ROUNDS; i += 1) {
    const began = performance.now();
    round();
    least = Math.min(least, performance.now() - began);
  }
  return (least * 1000) / HOSTS;
}

const read = readFrame(parseFrame);

function stages({ id, text }: Frame): void {
  const arrived = { traceparent: null, apiKey: undefined, body: text, topicDevice: id };
  const draft = newDraft('mqtt', 'frame', arrived, 1_795_176_000_000);
  if ((read(draft) ?? checkFrame(draft)) !== null) throw new Error('a frame was refused');
}

function readingOf({ id, text }: Frame): HostReading {
  const frame = parseFrame(text, id);
  if (frame.kind !== 'frame') throw new Error('a frame was refused');
  return frame.reading;
}

/** All hosts a frame a second, in batches of their partition, as a worker of the same process has them. */
function worker(frames: readonly Frame[]): number {
  const { meaning } = createMeaning(SETTINGS);
  const states = new Map<string, StateEntry>();
  let now = 1_795_176_000_000;
  return best(() => {
    now += 1000;
    const batches = Array.from({ length: PARTITIONS }, (): LogRecord[] => []);
    for (const [index, frame] of frames.entries()) {
      const reading = { ...readingOf(frame), at: now };
      batches[partitionOf(frame.id, PARTITIONS)]?.push({
        ...{
          partition: 0,
          offset: index + 1,
          kind: 'frame',
          receivedAt: now,
          key: frame.id,
          traceparent: null,
          body: '',
        },
        context: { device: index + 1, zone: null, zoneId: null },
        envelope: { id: `${now}`, at: now, profile: 'host', readings: [reading] },
      });
    }
    for (const batch of batches) {
      const { states: changed } = workOff(meaning, states, batch);
      for (const [, entry] of changed) {
        const name = stateName(entry.detector.name, entry.key);
        if (entry.state === null) states.delete(name);
        else states.set(name, entry);
      }
    }
  });
}

/** Frames onto the board and out to a dashboard that takes everything, 500 in a turn of the loop. */
async function board(frames: readonly Frame[]): Promise<number> {
  const state = createLiveState({ clock: systemClock, windowMs: 30_000, most: HOSTS });
  const hub = createLiveHub({
    ...{ state, clock: systemClock, watermarkSeconds: 10 },
    ...{ ready: () => true, fedAt: () => systemClock.now() },
  });
  let bytes = 0;
  const sink = {
    ...{ open: true, writableLength: 0, cork: () => undefined, uncork: () => undefined },
    write: (frame: Buffer) => void (bytes += frame.length),
    whenDrained: (callback: () => void) => void setImmediate(callback),
    close: () => undefined,
  };
  const door = hub.door('raw');
  const plan = await door.plan(null);
  if ('code' in plan) throw new Error('the hub is not ready');
  door.attach(sink, plan, null, { connection: 'bench', heartbeatSeconds: 30, reauthenticateBy: 0 });
  const readings = frames.map((frame) => ({ id: frame.id, reading: readingOf(frame) }));
  let least = Infinity;
  for (let round = 0; round < ROUNDS; round += 1) {
    const began = performance.now();
    for (let from = 0; from < HOSTS; from += 500) {
      const heardAt = systemClock.now();
      for (const { id, reading } of readings.slice(from, from + 500))
        state.offer({ frame: frameOf(id, reading), heardAt });
      await new Promise((resolve) => setImmediate(resolve));
    }
    least = Math.min(least, performance.now() - began);
  }
  hub.stop();
  if (bytes < HOSTS * 100) throw new Error(`only ${bytes} bytes were written`);
  return (least * 1000) / HOSTS;
}
