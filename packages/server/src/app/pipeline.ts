/**
 * The one file that joins the row: transports -> ingest -> log -> workers -> alerts -> realtime -> viewers. No part of
 * the row knows another; each is handed its neighbours here, as functions.
 */
import type { Alert } from '@tocsin/protocol/alert';
import type { ErrorCode } from '@tocsin/protocol/errors';
import { LIMITS } from '@tocsin/protocol/limits';
import { type Appender, createAppender } from '../ingest/append.ts';
import { authenticate } from '../ingest/authenticate.ts';
import { findDevice } from '../ingest/device.ts';
import { createDeviceCap } from '../ingest/device-cap.ts';
import { checkFrame, readFrame } from '../ingest/frame.ts';
import { checkFreshness } from '../ingest/freshness.ts';
import { enrolHost, findHost } from '../ingest/host-device.ts';
import { createIngest, type Ingest, type IngestMetrics } from '../ingest/ingest.ts';
import { parseJws } from '../ingest/jws.ts';
import { limitDevice, limitKey } from '../ingest/limit.ts';
import { originalEnvelope, parseOriginal } from '../ingest/original.ts';
import { checkSchema } from '../ingest/schema.ts';
import { createShedder, type Shedder } from '../ingest/shed.ts';
import { checkSignature } from '../ingest/signature.ts';
import { limitSize } from '../ingest/size.ts';
import { type Draft, newDraft, type Stage, type TransportName } from '../ingest/stage.ts';
import { ownTopic } from '../ingest/topic.ts';
import { type DeliveryReport, reportDelivery } from '../alerts/delivery.ts';
import { ALERT_CHANNEL, createLedger, type Ledger, type RaisedMessage } from '../alerts/ledger.ts';
import { partitionOf } from '../lib/partition.ts';
import { createIdFactory } from '../lib/ulid.ts';
import { throttled } from '../ops/throttled-log.ts';
import { parseFrame } from '../profiles/host/frame.ts';
import { createChannelPublisher } from '../realtime/channel.ts';
import type { DeliveryAccount } from '../realtime/delivery.ts';
import { createHub, type Hub } from '../realtime/hub.ts';
import { createAlertStore } from '../store/postgres/alerts.ts';
import { createChannelStore } from '../store/postgres/channels.ts';
import { createDeliveryStore } from '../store/postgres/deliveries.ts';
import { createWorkStore } from '../store/postgres/readings.ts';
import type { AlertStore } from '../store/ports/alerts.ts';
import type { ChannelStore, ChannelWriter } from '../store/ports/channels.ts';
import type { Log } from '../store/ports/log.ts';
import { startWorker, type Worker } from '../workers/worker.ts';
import type { Ground } from './ground.ts';
import { type Backlog, watchBacklog } from './backlog.ts';
import { completeFinding } from './complete-finding.ts';
import { createAccount, writeDeliveries } from './deliveries.ts';
import { createLive, type Live, showOn } from './live.ts';
import { createMeaning, type MeaningOfReadings } from './meaning.ts';
import type { Settings } from './settings.ts';
import { createMqttIntake, refusedUnread } from '../transports/mqtt/intake.ts';
import type { RefusedUnread, TakeMqttMessage } from '../transports/mqtt/message.ts';
import { ALERTS_PATH } from '../transports/websocket/request.ts';

/** Envelopes of one commit, and what may wait for commits: at 500 bytes each the count rules, at 256 KiB the bytes. */
const COMMIT = {
  batch: 500,
  batchBytes: 4_194_304,
  concurrency: 2,
  mostPending: 20_000,
  mostPendingBytes: 67_108_864,
  mostWaitMs: 10_000,
} as const;
/** Of MQTT: a broker's link has many messages of one device on their way, and they must not overtake one another. */
const COMMIT_IN_ORDER = { ...COMMIT, concurrency: 1, inOrder: true } as const;
/** Such lines; a device is always in the same one. One alone commits two thirds of what two do. */
const LINES_IN_ORDER = 2;
const PARTITION_HINT_TOPIC = 'log';

/**
 * Records that may wait for workers before ingest takes no more: some ten seconds of a worker's work. Behind that,
 * accepting would only make alarms late and fill the disk.
 */
const MOST_BACKLOG = 500_000;
const BEHIND = { reason: 'backlog', retryAfterMs: 5000 } as const;

/**
 * Whether `tocsin_alerts_total` counts an alert: operators page on it and its labels do not tell exercises apart, so those
 * of simulated devices do not count. A drill does: its kind says what it is.
 */
function countsAsRaised({ kind, status }: Pick<Alert, 'kind' | 'status'>): boolean {
  return status === 'actual' || kind === 'operator.drill';
}

/** Who got which alert. */
export interface Deliveries {
  /** Null when there is no such alert. */
  report(alertId: string): Promise<DeliveryReport | null>;
  /** Writes what the hub counts from now on; answers how to end it. */
  start(): () => Promise<void>;
  /** Deletes a bounded number of counts whose message is gone; answers how many. */
  trim(): Promise<number>;
}

/** The joined row. */
export interface Pipeline {
  readonly log: Log;
  /** For people's questions. */
  readonly alerts: AlertStore;
  readonly channels: ChannelStore & ChannelWriter;
  readonly ledger: Ledger;
  readonly hub: Hub;
  readonly deliveries: Deliveries;
  /** The live state of hosts. */
  readonly live: Live;
  /** Envelopes as compact JWS. */
  readonly envelopes: Ingest;
  /** Measurements of the original client. */
  readonly originals: Ingest;
  /** Frames and envelopes of MQTT. */
  readonly mqtt: TakeMqttMessage;
  /** Counts and tells what MQTT refused unread. */
  readonly mqttRefused: RefusedUnread;
  /** How far workers are behind. */
  readonly backlog: Backlog;
  /** Counts a refusal that a transport made before the stages. */
  rejected(transport: TransportName, reason: ErrorCode): void;
  /** Starts the worker, when this process is one. */
  startWorker(): Worker | null;
}

/** Joins the row over what {@link Ground} holds. */
export function createPipeline(settings: Settings, ground: Ground): Pipeline {
  const { clock, bus, store, identity, metrics, log: logger, records: log } = ground;
  const backlog = watchBacklog(log);
  const alerts = createAlertStore(store.db);
  const channels = createChannelStore(store.db);
  const meaning = createMeaning(settings);
  const publisher = createChannelPublisher({
    pubsub: bus.pubsub,
    onFailure: (error) => logger.warn({ err: error }, 'the bus did not take a message; hubs read it from the store'),
  });
  const publish = (messages: readonly RaisedMessage[]): void => {
    for (const { type, alert } of messages) {
      const { id, kind, severity, status, zoneId, deviceId, offset, revision, evidence } = alert;
      if (type === 'alert' && countsAsRaised({ kind, status })) metrics.alerts.add({ kind, severity });
      logger.info(
        {
          alertId: id,
          kind,
          severity,
          status,
          zoneId,
          deviceId,
          offset,
          revision,
          traceparent: evidence['traceparent'],
        },
        type,
      );
    }
    void publisher.publish(messages);
  };
  const ledger = createLedger({
    db: store.db,
    alerts,
    channels,
    signer: () => identity.signingKeys.current('alert'),
    ids: createIdFactory(),
    publish,
    events: {
      acted: (alertId, action, actor) => logger.info({ alertId, action, actor }, 'an operator acted on an alert'),
      publishFailed: (error) => logger.warn({ err: error }, 'publishing failed'),
    },
  });
  const refusals = throttled(logger, 1000, clock);
  const rejected = (transport: TransportName, reason: ErrorCode): void => {
    metrics.rejected.add({ transport, reason });
    refusals.warn(reason, { transport }, 'envelope refused');
  };
  const account = createAccount(ground);
  const live = createLive(settings, ground);
  return {
    log,
    backlog,
    alerts: createAlertStore(store.front),
    channels,
    ledger,
    hub: createAlertHub(settings, ground, channels, account),
    deliveries: joinDeliveries(ground, account),
    live,
    ...createIngests(settings, ground, { log, meaning, rejected, live, backlog: backlog.records }),
    rejected,
    startWorker: () =>
      settings.roles.includes('worker') ? startRowWorker(ground, { log, meaning, ledger, publish }) : null,
  };
}

function joinDeliveries(ground: Ground, account: DeliveryAccount): Deliveries {
  const forPeople = createDeliveryStore(ground.store.front);
  const inBackground = createDeliveryStore(ground.store.upkeep);
  return {
    report: (alertId) => reportDelivery(forPeople, alertId),
    start: () => writeDeliveries(ground, ALERT_CHANNEL, account, inBackground),
    trim: () => inBackground.trim(ALERT_CHANNEL),
  };
}

function createAlertHub(
  settings: Settings,
  { bus, clock, metrics, log }: Ground,
  store: ChannelStore,
  deliveries: DeliveryAccount,
): Hub {
  const failures = throttled(log, 10_000, clock);
  const path = ALERTS_PATH;
  const hub = createHub({
    channel: ALERT_CHANNEL,
    store,
    deliveries,
    pubsub: bus.pubsub,
    clock,
    watermarkSeconds: settings.wsWatermarkSeconds,
    events: {
      fanout: (seconds) => metrics.fanout.observe({ path }, seconds),
      sent: (messages) => metrics.websocketMessages.add({ direction: 'out' }, messages),
      replayed: (messages) => metrics.websocketReplayed.add({ path }, messages),
      dropped: (reason) => void failures.warn(`bus-${reason}`, {}, 'a message of the bus was dropped'),
      lag: (ms) => metrics.busMessage.observe({}, ms / 1000),
      failure: (part, error) => void failures.warn(`hub-${part}`, { err: error }, 'the hub could not reach a part'),
      restarted: () => log.warn({}, 'the history of the channel began anew'),
    },
  });
  metrics.beforeText(() => {
    const { waiting, queuedBytes, checkedMs } = hub.standing();
    metrics.websocketWaiting.set({ path }, waiting);
    metrics.websocketQueuedBytes.set({ path }, queuedBytes);
    if (checkedMs !== null) metrics.watermarkAge.set({ path }, checkedMs / 1000);
  });
  return hub;
}

interface IngestParts {
  readonly log: Log;
  readonly backlog: () => number;
  readonly meaning: MeaningOfReadings;
  readonly live: Live;
  readonly rejected: (transport: TransportName, reason: ErrorCode) => void;
}

function createIngests(
  settings: Settings,
  ground: Ground,
  parts: IngestParts,
): Pick<Pipeline, 'envelopes' | 'originals' | 'mqtt' | 'mqttRefused'> {
  const { bus, identity, registry } = ground;
  const limits = {
    perKey: settings.rateLimitPerKey,
    keyBurst: () => settings.rateLimitBurst ?? Math.max(2 * settings.rateLimitPerKey, registry.registeredCount()),
    perDevice: settings.rateLimitPerDevice,
    global: settings.rateLimitGlobal,
  };
  const shared = createShared(settings, ground, parts);
  const { device, counts, finished } = shared;
  const last = [shared.fresh, shared.line(COMMIT).stage];
  const key = [authenticate((text) => identity.apiKeys.check(text)), limitKey(bus.limiter, limits)];
  const limited = [limitDevice(bus.limiter, limits), ...device];
  const schema = checkSchema(parts.meaning.parsers);
  return {
    envelopes: createIngest([...key, parseJws(), ...limited, schema, ...last], counts, finished),
    originals: createIngest([...key, parseOriginal, ...limited, originalEnvelope, ...last], counts, finished),
    ...createMqtt(settings, ground, parts, shared),
  };
}

/** What the ways in have in common. */
interface SharedIngest {
  readonly shedder: Shedder;
  /** From the device's name to its signature. */
  readonly device: readonly Stage[];
  readonly fresh: Stage;
  /** A line for the log. */
  readonly line: (commit: typeof COMMIT | typeof COMMIT_IN_ORDER) => Appender;
  readonly counts: IngestMetrics;
  readonly finished: (draft: Draft, through: boolean) => void;
}

function createShared(settings: Settings, ground: Ground, parts: IngestParts): SharedIngest {
  const { registry, metrics, load, clock, log: logger } = ground;
  const failures = throttled(logger, 1000, clock);
  const line: SharedIngest['line'] = (commit) =>
    createAppender({
      ...commit,
      append: (envelopes) => parts.log.append(envelopes),
      partitions: parts.log.partitions,
      monotonic: () => clock.monotonic(),
      committed: (partitions) => hintWorkers(ground, partitions),
      failed: (error) =>
        void failures.error('append', { err: error }, 'a commit of envelopes failed; they were refused'),
      overload: () => {
        const overload = parts.backlog() > MOST_BACKLOG ? BEHIND : load.overloaded();
        if (overload !== null) metrics.shed.add({ reason: overload.reason });
        return overload;
      },
    });
  const shedder = createShedder({
    monotonic: () => clock.monotonic(),
    later: setTimeout,
    shed: () => metrics.shed.add({ reason: 'queue' }),
  });
  const show = showOn(parts.live.board);
  return {
    line,
    shedder,
    device: [findDevice((id) => registry.directory.lookup(id)), shedder.stage, checkSignature(ground.verifier.check)],
    fresh: checkFreshness(settings.timestampToleranceSeconds * 1000),
    counts: {
      accepted: (transport, profile, readings) => {
        metrics.accepted.add({ transport, profile });
        metrics.readings.add({ transport, profile }, readings);
      },
      rejected: parts.rejected,
    },
    finished: (draft, through) => {
      shedder.finished(draft, through);
      show(draft, through);
    },
  };
}

/**
 * Frames and envelopes of MQTT: the stages of HTTP without API keys and rates, which are HTTP's; the intake tells of refusals.
 */
function createMqtt(
  settings: Settings,
  { registry, clock, metrics, log }: Ground,
  parts: IngestParts,
  { device, fresh, line, shedder, finished, counts: { accepted } }: SharedIngest,
): Pick<Pipeline, 'mqtt' | 'mqttRefused'> {
  const refused = (reason: ErrorCode): void => metrics.rejected.add({ transport: 'mqtt', reason });
  const counts: IngestMetrics = { accepted, rejected: (_transport, reason) => refused(reason) };
  const cap = createDeviceCap(parts.live.board, settings.maxDevices);
  const append = appendInOrder(line, parts.log.partitions);
  const frames = createIngest(
    [
      limitSize(settings.maxPayloadBytes),
      readFrame(parseFrame),
      findHost((id) => registry.directory.lookup(id)),
      checkFrame,
      cap.stage,
      shedder.stage,
      enrolHost((id) => registry.hosts.enrol(id)),
      append,
    ],
    counts,
    (draft, through) => {
      finished(draft, through);
      cap.finished(draft);
    },
  );
  const envelopes = createIngest(
    [
      limitSize(LIMITS.bodyBytes.value),
      parseJws(),
      ownTopic,
      ...device,
      checkSchema(parts.meaning.parsers),
      fresh,
      append,
    ],
    counts,
    finished,
  );
  const lines = throttled(log, 1000, clock);
  const topics = { frameTopic: settings.mqttTopic, envelopeTopic: settings.mqttReadingsTopic };
  const mqtt = createMqttIntake({
    ...topics,
    takeFrame: (arrived) => frames(newDraft('mqtt', 'frame', arrived, clock.now())),
    takeEnvelope: (arrived) => envelopes(newDraft('mqtt', 'envelope', arrived, clock.now())),
    refused,
    lines,
  });
  return { mqtt, mqttRefused: refusedUnread({ ...topics, refused, lines }) };
}

/** What a device sent first is durable first: its messages stand in one line, in which one commit follows the other. */
function appendInOrder(line: SharedIngest['line'], partitions: number): Stage {
  const lines = Array.from({ length: LINES_IN_ORDER }, () => line(COMMIT_IN_ORDER).stage);
  return (draft) => {
    const stage = lines[partitionOf(draft.deviceId ?? '', partitions) % LINES_IN_ORDER];
    if (stage === undefined) throw new TypeError('no line');
    return stage(draft);
  };
}

/** Tells workers of every process that these partitions have grown, and by whom; whoever misses it looks twice a second. */
export function hintWorkers({ bus, instance }: Pick<Ground, 'bus' | 'instance'>, partitions: Iterable<number>): void {
  bus.pubsub.publish(PARTITION_HINT_TOPIC, [...partitions, instance].join(' ')).catch(() => undefined);
}

interface WorkerParts {
  readonly log: Log;
  readonly meaning: MeaningOfReadings;
  readonly ledger: Ledger;
  readonly publish: (messages: readonly RaisedMessage[]) => void;
}

function startRowWorker(ground: Ground, parts: WorkerParts): Worker {
  const { store, registry, bus, clock, log: logger } = ground;
  const failures = throttled(logger, 1000, clock);
  const worker = startWorker({
    owner: ground.instance,
    db: store.db,
    log: parts.log,
    store: createWorkStore(store.db),
    meaning: parts.meaning.meaning,
    complete: (found) => completeFinding(registry, found),
    raise: (sql, findings, now) => parts.ledger.raise(sql, findings, now),
    publish: parts.publish,
    grown: (partitions) => hintWorkers(ground, partitions),
    now: () => clock.now(),
    standing: ground.membership.standing,
    // A private store has one process: leases of the one before it need not run out.
    seize: store.engine === 'private',
    events: {
      retry: (error) => void failures.warn('worker-retry', { err: error }, 'work on the log will be tried again'),
      failed: (records) => {
        for (const { partition, offset, kind, reason } of records) {
          logger.error(
            { partition, offset, kind, reason },
            'a record could not be worked off; it is kept in log_failures',
          );
        }
      },
      lost: (partition) => logger.debug({ partition }, 'partition given up'),
    },
  });
  void bus.pubsub.subscribe(PARTITION_HINT_TOPIC, (payload) => {
    const words = payload.split(' ');
    worker.wake(words.map(Number), words.at(-1) === ground.instance);
  });
  return worker;
}
