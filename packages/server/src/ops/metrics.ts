/**
 * The metrics of one app, by the names of the contract (section 7), in Prometheus text format. Nothing outside `ops`
 * knows that it is prom-client; there are no globals, so several apps may live in one process.
 *
 * Guarantees: label values come from closed sets (codes, kinds, paths of the program's own tables). As a last bound, a
 * label value beyond the first {@link MOST_SERIES} series of a metric is counted as `other`: memory cannot grow by it.
 */
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { Counter, Gauge, Histogram, Registry } from 'prom-client';

/** Labels of a metric by name. */
export type Labels<Name extends string> = Readonly<Record<Name, string>>;

/** Counts up. */
export interface CounterMetric<Name extends string> {
  add(labels: Labels<Name>, n?: number): void;
}

/** A value that rises and falls. */
export interface GaugeMetric<Name extends string> {
  set(labels: Labels<Name>, value: number): void;
  add(labels: Labels<Name>, n: number): void;
}

/** Durations, in seconds. */
export interface HistogramMetric<Name extends string> {
  observe(labels: Labels<Name>, seconds: number): void;
}

/** One metric of our own. */
export interface MetricRow {
  readonly name: string;
  readonly kind: 'counter' | 'gauge' | 'histogram';
  readonly labels: readonly string[];
  readonly help: string;
}

/** Every metric of the app, and its text. */
export interface Metrics {
  /** Envelopes accepted (durable). */
  readonly accepted: CounterMetric<'transport' | 'profile'>;
  /** Readings in them. */
  readonly readings: CounterMetric<'transport' | 'profile'>;
  /** Envelopes refused, by the code of the refusal. */
  readonly rejected: CounterMetric<'transport' | 'reason'>;
  readonly alerts: CounterMetric<'kind' | 'severity'>;
  readonly websocketConnections: GaugeMetric<'path'>;
  readonly websocketClosed: CounterMetric<'path' | 'code'>;
  readonly websocketConnectionDuration: HistogramMetric<'path'>;
  /** `direction`: in, out. */
  readonly websocketMessages: CounterMetric<'direction'>;
  /** Connections that ended, by the word for why (`EndReason`). */
  readonly websocketEnds: CounterMetric<'path' | 'reason'>;
  /** Connections that began, by how: `fresh`, `resume`, `unrecovered`. */
  readonly websocketJoined: CounterMetric<'path' | 'plan'>;
  /** Messages sent to viewers that had missed them. */
  readonly websocketReplayed: CounterMetric<'path'>;
  /** What waits in the queues of viewers, and how many viewers that are. */
  readonly websocketQueuedBytes: GaugeMetric<'path'>;
  readonly websocketWaiting: GaugeMetric<'path'>;
  /** Handshakes whose client was gone before they were decided. */
  readonly websocketAbandoned: CounterMetric<'path'>;
  /** Handshakes that are being decided. */
  readonly websocketHandshakes: GaugeMetric<never>;
  /** Hosts on the live board, and what was told of them and dropped. */
  readonly liveDevices: GaugeMetric<never>;
  readonly liveDropped: CounterMetric<never>;
  /** Since the store last said where the channel stands, and viewers had all of it. */
  readonly watermarkAge: GaugeMetric<'path'>;
  /** 1 while the process ends. */
  readonly draining: GaugeMetric<never>;
  readonly handshake: HistogramMetric<'path'>;
  readonly scoring: HistogramMetric<'profile'>;
  readonly redis: HistogramMetric<'command'>;
  /** Refreshes of tokens, by what came of them. */
  readonly refresh: CounterMetric<'result'>;
  /** From the commit of a message to its last viewer of this process. */
  readonly fanout: HistogramMetric<'path'>;
  /** From the commit of the newest message that a viewer's receipt newly covers to the receipt. */
  readonly receipt: HistogramMetric<'path'>;
  /** Age of the last probe that came back through the bus. */
  readonly busLag: GaugeMetric<never>;
  /** From the publication of a channel's message to its arrival here. */
  readonly busMessage: HistogramMetric<never>;
  /** Records that no worker has processed yet. */
  readonly logBacklog: GaugeMetric<'partition'>;
  /** Messages for destinations of notifications, by kind of destination and what came of them. */
  readonly notifications: CounterMetric<'destination' | 'result'>;
  /** Messages of the channel that wait for destinations that this process delivers to. */
  readonly notificationLag: GaugeMetric<'destination'>;
  /** Destinations of this process whose next post is put off. */
  readonly notificationsDelayed: GaugeMetric<'destination'>;
  /** Requests refused because of load, by its reason. */
  readonly shed: CounterMetric<'reason'>;
  /** When the certificate of a listener ends, Unix seconds; no series without TLS. */
  readonly certificateExpiry: GaugeMetric<'listener'>;
  /** Open connections to the embedded broker. */
  readonly mqttConnections: GaugeMetric<never>;
  /** Connects that the embedded broker refused, by the word for why (`RefusedConnect`). */
  readonly mqttRefused: CounterMetric<'reason'>;
  /** Connections to it that ended, by the word for why. */
  readonly mqttEnds: CounterMetric<'reason'>;
  /** Clients that it banned: `id`, `user`, `address`. */
  readonly mqttBans: CounterMetric<'by'>;
  /** 1 while the link to an outside broker takes messages in this process. */
  readonly mqttLinkConnected: GaugeMetric<never>;
  /** Connections of the link that ended or did not come about, by the word for why (`LinkReason`). */
  readonly mqttLinkEnds: CounterMetric<'reason'>;
  /** Messages that the link got: `fresh`, `redelivered`, `retained`, `oversize`; and of those `dropped`. */
  readonly mqttLinkMessages: CounterMetric<'kind'>;
  /** Messages of the link in memory. */
  readonly mqttLinkInFlight: GaugeMetric<never>;
  /** From the arrival of a message to its PUBACK. */
  readonly mqttLinkPuback: HistogramMetric<never>;
  readonly http: HistogramMetric<'method' | 'route' | 'status'>;
  /** Everything as text; `contentType` belongs to it. */
  text(): Promise<string>;
  readonly contentType: string;
  /** What there is, for the documents. */
  readonly rows: readonly MetricRow[];
  /** Called before each text, for values that are looked up; must not reject. */
  beforeText(collect: () => void | Promise<void>): void;
  close(): void;
}

/** Most series of one metric. */
export const MOST_SERIES = 500;
const OTHER = 'other';
/** From 1 ms to 10 s, seconds. */
const BUCKETS: readonly number[] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];
/** From 1 s to a day, seconds: lives of connections. */
const LONG_BUCKETS: readonly number[] = [1, 10, 60, 300, 900, 3600, 14_400, 43_200, 86_400];

/** Builds the metrics of one app. `version` is shown in `tocsin_build_info`. */
export function createMetrics(version: string): Metrics {
  const registry = new Registry();
  const collectors: (() => void | Promise<void>)[] = [];
  const stopProcess = addProcessMetrics(registry, collectors, version);
  const makers = createMakers(registry);
  const { counter, gauge, histogram, rows } = makers;
  return {
    accepted: counter('tocsin_accepted_total', 'Envelopes accepted', 'transport', 'profile'),
    readings: counter('tocsin_readings_total', 'Readings accepted', 'transport', 'profile'),
    rejected: counter('tocsin_rejected_total', 'Envelopes refused, by code', 'transport', 'reason'),
    alerts: counter('tocsin_alerts_total', 'Alerts raised', 'kind', 'severity'),
    ...websocketMetrics(makers),
    ...mqttMetrics(makers),
    scoring: histogram('tocsin_scoring_seconds', 'Scoring of a reading', BUCKETS, 'profile'),
    redis: histogram('tocsin_redis_seconds', 'Commands to Redis', BUCKETS, 'command'),
    refresh: counter('tocsin_refresh_total', 'Refreshes of tokens', 'result'),
    fanout: histogram('tocsin_fanout_seconds', 'From commit to the last viewer here', BUCKETS, 'path'),
    busLag: gauge('tocsin_bus_lag_seconds', 'Age of the last probe that came back through the bus'),
    busMessage: histogram('tocsin_bus_message_seconds', 'From publication to arrival over the bus', BUCKETS),
    logBacklog: gauge('tocsin_log_backlog', 'Records of the log not processed yet', 'partition'),
    liveDevices: gauge('tocsin_live_devices', 'Hosts that were heard within the pruning window'),
    liveDropped: counter('tocsin_live_dropped_total', 'Live frames of other processes or the store that were none'),
    draining: gauge('tocsin_draining', '1 while the process ends'),
    notifications: counter(
      'tocsin_notifications_total',
      'Messages to Slack, webhooks and e-mail: `sent`, `retry`, `dead`, `lost`, `summary`, `summary-dropped`',
      'destination',
      'result',
    ),
    notificationLag: gauge(
      'tocsin_notifications_lag',
      'Messages that wait for the destinations held here',
      'destination',
    ),
    notificationsDelayed: gauge(
      'tocsin_notifications_delayed',
      'Destinations held here that are being retried',
      'destination',
    ),
    shed: counter('tocsin_shed_total', 'Requests refused because of load', 'reason'),
    certificateExpiry: gauge(
      'tocsin_tls_certificate_expiry_seconds',
      'When the certificate of a listener ends, Unix seconds',
      'listener',
    ),
    http: histogram('tocsin_http_seconds', 'HTTP requests', BUCKETS, 'method', 'route', 'status'),
    async text() {
      for (const collect of collectors) await collect();
      return registry.metrics();
    },
    contentType: registry.contentType,
    rows,
    beforeText: (collect) => void collectors.push(collect),
    close: stopProcess,
  };
}

/** Makes metrics of one registry, and notes what it made. */
interface Makers {
  readonly rows: readonly MetricRow[];
  counter<Name extends string = never>(name: string, help: string, ...labels: Name[]): CounterMetric<Name>;
  gauge<Name extends string = never>(name: string, help: string, ...labels: Name[]): GaugeMetric<Name>;
  histogram<Name extends string = never>(
    name: string,
    help: string,
    buckets: readonly number[],
    ...labels: Name[]
  ): HistogramMetric<Name>;
}

function createMakers(registry: Registry): Makers {
  const rows: MetricRow[] = [];
  const note = (kind: MetricRow['kind'], name: string, help: string, labels: readonly string[]): void =>
    void rows.push({ name, kind, labels, help });
  const counter = <Name extends string = never>(name: string, help: string, ...labels: Name[]): CounterMetric<Name> => {
    note('counter', name, help, labels);
    const metric = new Counter({ name, help, labelNames: labels, registers: [registry] });
    const bound = boundSeries(labels);
    return { add: (values, n = 1) => metric.inc(bound(values), n) };
  };
  const gauge = <Name extends string = never>(name: string, help: string, ...labels: Name[]): GaugeMetric<Name> => {
    note('gauge', name, help, labels);
    const metric = new Gauge({ name, help, labelNames: labels, registers: [registry] });
    const bound = boundSeries(labels);
    return {
      set: (values, value) => metric.set(bound(values), value),
      add: (values, n) => metric.inc(bound(values), n),
    };
  };
  const histogram = <Name extends string = never>(
    name: string,
    help: string,
    buckets: readonly number[],
    ...labels: Name[]
  ): HistogramMetric<Name> => {
    note('histogram', name, help, labels);
    const metric = new Histogram({ name, help, labelNames: labels, buckets: [...buckets], registers: [registry] });
    const bound = boundSeries(labels);
    return { observe: (values, seconds) => metric.observe(bound(values), seconds) };
  };
  return { rows, counter, gauge, histogram };
}

type WebSocketPart = Pick<
  Metrics,
  Extract<keyof Metrics, `websocket${string}`> | 'handshake' | 'receipt' | 'watermarkAge'
>;

function websocketMetrics({ counter, gauge, histogram }: Makers): WebSocketPart {
  return {
    websocketConnections: gauge('tocsin_websocket_connections', 'Open WebSocket connections', 'path'),
    websocketClosed: counter('tocsin_websocket_closed_total', 'WebSocket connections closed', 'path', 'code'),
    websocketEnds: counter('tocsin_websocket_ends_total', 'WebSocket connections closed, by reason', 'path', 'reason'),
    websocketConnectionDuration: histogram(
      'tocsin_websocket_connection_duration_seconds',
      'Life of WebSocket connections',
      LONG_BUCKETS,
      'path',
    ),
    websocketMessages: counter('tocsin_websocket_messages_total', 'WebSocket messages, `in` or `out`', 'direction'),
    websocketJoined: counter(
      'tocsin_websocket_joined_total',
      'Connections that began: `fresh`, `resume` (what was missed follows), `unrecovered`',
      'path',
      'plan',
    ),
    websocketReplayed: counter('tocsin_websocket_replayed_total', 'Messages sent to viewers that missed them', 'path'),
    websocketQueuedBytes: gauge('tocsin_websocket_queued_bytes', 'Bytes that wait for slow viewers', 'path'),
    websocketWaiting: gauge('tocsin_websocket_waiting_viewers', 'Viewers for whom something waits', 'path'),
    websocketAbandoned: counter(
      'tocsin_websocket_abandoned_total',
      'Handshakes whose client was gone before they were decided',
      'path',
    ),
    websocketHandshakes: gauge('tocsin_websocket_handshakes', 'Handshakes that are being decided'),
    handshake: histogram('tocsin_handshake_seconds', 'WebSocket handshakes that were let in', BUCKETS, 'path'),
    receipt: histogram('tocsin_receipt_seconds', 'From commit to the receipt of a viewer', BUCKETS, 'path'),
    watermarkAge: gauge(
      'tocsin_watermark_age_seconds',
      'Since the store last said where the channel stands and all of it was delivered here',
      'path',
    ),
  };
}

function mqttMetrics({ counter, gauge, histogram }: Makers): Pick<Metrics, Extract<keyof Metrics, `mqtt${string}`>> {
  return {
    mqttConnections: gauge('tocsin_mqtt_connections', 'Open connections to the embedded broker'),
    mqttRefused: counter('tocsin_mqtt_refused_total', 'Connects that the embedded broker refused', 'reason'),
    mqttEnds: counter('tocsin_mqtt_ends_total', 'Connections to the embedded broker that ended', 'reason'),
    mqttBans: counter('tocsin_mqtt_bans_total', 'Clients that it banned since they came and went', 'by'),
    mqttLinkConnected: gauge('tocsin_mqtt_link_connected', '1 while messages of the outside broker come in here'),
    mqttLinkEnds: counter('tocsin_mqtt_link_reconnects_total', 'Connections to the broker that failed, why', 'reason'),
    mqttLinkMessages: counter(
      'tocsin_mqtt_link_messages_total',
      'Messages of the broker: `fresh`, `redelivered`, `retained` or `oversize` (both not taken); `dropped` (QoS 0)',
      'kind',
    ),
    mqttLinkInFlight: gauge('tocsin_mqtt_link_in_flight', 'Messages of the broker in memory'),
    mqttLinkPuback: histogram('tocsin_mqtt_link_puback_seconds', 'From arrival of a message to its PUBACK', BUCKETS),
  };
}

/** Answers the labels as they are, or `other` for all of them once there are too many series. */
function boundSeries<Name extends string>(names: readonly Name[]): (labels: Labels<Name>) => Labels<Name> {
  const known = new Set<string>();
  const other = Object.fromEntries(names.map((name) => [name, OTHER])) as Labels<Name>;
  return (labels) => {
    let key = '';
    for (const name of names) key += `${labels[name]}\n`;
    if (known.has(key)) return labels;
    if (known.size >= MOST_SERIES) return other;
    known.add(key);
    return labels;
  };
}

/** Process and event loop, by prom-client's usual names; its own collector cannot be stopped, so this one is ours. */
function addProcessMetrics(
  registry: Registry,
  collectors: (() => void | Promise<void>)[],
  version: string,
): () => void {
  const delay = monitorEventLoopDelay({ resolution: 10 });
  delay.enable();
  const gauge = (name: string, help: string): Gauge => new Gauge({ name, help, registers: [registry] });
  const cpu = new Counter({
    name: 'process_cpu_seconds_total',
    help: 'Processor time, seconds',
    registers: [registry],
  });
  const resident = gauge('process_resident_memory_bytes', 'Resident memory');
  const heapUsed = gauge('nodejs_heap_size_used_bytes', 'Used heap');
  const heapTotal = gauge('nodejs_heap_size_total_bytes', 'Heap');
  const external = gauge('nodejs_external_memory_bytes', 'Memory outside the heap');
  const mean = gauge('nodejs_eventloop_lag_mean_seconds', 'Mean delay of the event loop since the last look');
  const p99 = gauge('nodejs_eventloop_lag_p99_seconds', 'Its 99th percentile');
  gauge('process_start_time_seconds', 'Start of the process, Unix seconds').set(
    Math.round(performance.timeOrigin / 1000),
  );
  new Gauge({ name: 'tocsin_build_info', help: 'Version', labelNames: ['version', 'node'], registers: [registry] }).set(
    { version, node: process.version },
    1,
  );
  let counted = 0;
  collectors.push(() => {
    const { user, system } = process.cpuUsage();
    const total = (user + system) / 1e6;
    cpu.inc(Math.max(0, total - counted));
    counted = total;
    const memory = process.memoryUsage();
    resident.set(memory.rss);
    heapUsed.set(memory.heapUsed);
    heapTotal.set(memory.heapTotal);
    external.set(memory.external);
    mean.set(Number.isNaN(delay.mean) ? 0 : delay.mean / 1e9);
    p99.set(delay.percentile(99) / 1e9);
    delay.reset();
  });
  return () => void delay.disable();
}
