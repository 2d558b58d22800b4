/**
 * The live state of hosts in this process: the board, fed by what ingest accepts here, by the other instances and by the
 * store, and the viewers of it.
 */
import { frameOf } from '@tocsin/protocol/frame';
import type { HostReading, Reading } from '@tocsin/protocol/envelope';
import type { Draft } from '../ingest/stage.ts';
import { throttled } from '../ops/throttled-log.ts';
import type { LiveBoard } from '../realtime/live-board.ts';
import { createLiveFeed, type LiveFeed } from '../realtime/live-feed.ts';
import { createLiveHub, type LiveHub } from '../realtime/live-hub.ts';
import { createLiveState } from '../realtime/live-state.ts';
import { createLiveReadings } from '../store/postgres/live.ts';
import { DEVICES_PATH } from '../transports/websocket/request.ts';
import type { Ground } from './ground.ts';
import type { Settings } from './settings.ts';

/** Registered hosts that the board shows beside MAX_DEVICES: these are not refused for their number. */
export const REGISTERED_HOSTS_MOST = 50_000;

/** The board and its viewers. */
export interface Live {
  readonly board: LiveFeed;
  readonly hub: LiveHub;
}

/** Makes them; nothing is heard before `board.start`. */
export function createLive(settings: Settings, ground: Ground): Live {
  const { bus, clock, instance, metrics, log, store } = ground;
  const failures = throttled(log, 10_000, clock);
  const windowMs = settings.pruneSeconds * 1000;
  const most = settings.maxDevices + REGISTERED_HOSTS_MOST;
  const state = createLiveState({
    clock,
    windowMs,
    most,
    onFull: () => void failures.warn('live-full', { most }, 'the live board is full; a host is not shown'),
  });
  const board = createLiveFeed({
    state,
    pubsub: bus.pubsub,
    bus,
    instance,
    store: createLiveReadings(store.front),
    clock,
    windowMs,
    most,
    onDropped: () => {
      metrics.liveDropped.add({});
      failures.warn('live-malformed', {}, 'what another process or the store told of live devices was dropped');
    },
    onFailure: (part, error) =>
      void failures.warn(`live-${part}`, { err: error }, 'the live board could not reach a part'),
  });
  const path = DEVICES_PATH;
  const hub = createLiveHub({
    state,
    clock,
    watermarkSeconds: settings.wsWatermarkSeconds,
    ready: () => board.ready(),
    fedAt: () => board.fedAt(),
    events: {
      fanout: (seconds) => metrics.fanout.observe({ path }, seconds),
      sent: (messages) => metrics.websocketMessages.add({ direction: 'out' }, messages),
    },
  });
  metrics.beforeText(() => {
    metrics.liveDevices.set({}, board.size());
    const { waiting, queuedBytes, checkedMs } = hub.standing();
    metrics.websocketWaiting.set({ path }, waiting);
    metrics.websocketQueuedBytes.set({ path }, queuedBytes);
    if (checkedMs !== null) metrics.watermarkAge.set({ path }, checkedMs / 1000);
  });
  return { board, hub };
}

const newestOf = (readings: readonly Reading[]): HostReading | undefined => {
  let newest: HostReading | undefined;
  // Only hosts come here; of several at one time the last counts, as it does in the store.
  for (const reading of readings as readonly HostReading[])
    if (newest === undefined || reading.at >= newest.at) newest = reading;
  return newest;
};

/** Shows on the board what has become durable of a host. */
export function showOn(board: Pick<LiveBoard, 'heard'>): (draft: Draft, through: boolean) => void {
  return ({ envelope, deviceId, receivedAt }, through) => {
    if (!through || envelope === null || deviceId === null || envelope.profile !== 'host') return;
    const newest = newestOf(envelope.readings);
    if (newest !== undefined) board.heard({ frame: frameOf(deviceId, newest), heardAt: receivedAt });
  };
}
