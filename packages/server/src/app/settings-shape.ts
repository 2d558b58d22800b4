/**
 * The settings as the program sees them. One field for each row of `SETTINGS` (`settings-table.ts`); `null` is "absent",
 * "off" or "derived", as the row says. Paths are absolute. Types only.
 */

/** The parts that a process may run. */
export type ProcessRole = 'gateway' | 'worker' | 'bridge';
/** The least severity that a destination of notifications is told of. */
export type LeastSeverity = 'extreme' | 'severe' | 'moderate' | 'minor' | 'unknown';
/** Levels of the log; `silent` writes nothing. */
export type LogLevel = 'trace' | 'debug' | 'info' | 'warn' | 'error' | 'fatal' | 'silent';

/** Where the embedded broker listens. `port` 0: any free one. A port that was not `given` may be taken by somebody else. */
export interface EmbeddedPort {
  readonly port: number;
  readonly given: boolean;
}

/** Everything that an operator may choose. */
export interface Settings {
  readonly host: string;
  /** 0: any free port. */
  readonly port: number;
  /** An origin; null: made of host and port, see `outsideAddress`. */
  readonly publicUrl: string | null;
  readonly trustedProxies: readonly string[];
  readonly tlsCertFile: string | null;
  readonly tlsKeyFile: string | null;
  readonly tlsClientCaFile: string | null;
  readonly dataDir: string;
  readonly databaseUrl: string | null;
  /** null: generated into `dataDir`. */
  readonly clusterSecret: string | null;
  readonly redisUrl: string | null;
  readonly redisClusterNodes: readonly string[] | null;
  readonly redisSentinels: readonly string[] | null;
  readonly redisSentinelName: string | null;
  readonly logBackend: 'store' | 'redis';
  readonly roles: readonly ProcessRole[];
  readonly drainSeconds: number;
  readonly adminEmail: string | null;
  readonly adminPassword: string | null;
  readonly apiKey: string | null;
  /** Requests a second. */
  readonly rateLimitPerKey: number;
  /** null: the larger of twice the rate and the number of devices registered. */
  readonly rateLimitBurst: number | null;
  readonly rateLimitPerDevice: number;
  /** null: off. */
  readonly rateLimitGlobal: number | null;
  readonly timestampToleranceSeconds: number;
  readonly swarmSensors: number;
  readonly swarmWindowSeconds: number;
  readonly swarmCooldownSeconds: number;
  readonly readingsRetentionDays: number;
  readonly liveReadingSeconds: number;
  readonly mqttBroker: string | null;
  readonly mqttPort: number;
  readonly mqttUsername: string | null;
  readonly mqttPassword: string | null;
  /** null: no embedded broker. */
  readonly mqttEmbeddedPort: EmbeddedPort | null;
  readonly mqttTopic: string;
  readonly mqttReadingsTopic: string;
  readonly mqttCaCertFile: string | null;
  readonly mqttClientCertFile: string | null;
  readonly mqttClientKeyFile: string | null;
  readonly mqttSharedSubscriptions: boolean;
  readonly mqttBackoffMinSeconds: number;
  readonly mqttBackoffMaxSeconds: number;
  /** null: no gRPC. */
  readonly grpcPort: number | null;
  readonly jwtAlgorithm: 'ES256' | 'RS256';
  /** null: the public URL. */
  readonly jwtIssuer: string | null;
  readonly jwtAudience: string;
  readonly jwtClockSkewSeconds: number;
  readonly jwksUrl: string | null;
  readonly accessTokenMinutes: number;
  readonly wsPort: number | null;
  readonly wsMaxConnectionsPerUser: number;
  readonly wsMaxConnectionsPerIp: number;
  readonly wsReconnectsPerMinute: number;
  readonly wsMaxMessageBytes: number;
  readonly wsMessagesPer10Seconds: number;
  readonly wsHeartbeatSeconds: number;
  readonly wsWatermarkSeconds: number;
  readonly wsReauthenticateSeconds: number;
  /** null: the origin of the public URL. */
  readonly wsAllowedOrigins: readonly string[] | null;
  readonly wsAllowQueryToken: boolean;
  readonly wsPublicAlerts: boolean;
  readonly wsAuthToken: string | null;
  readonly pruneSeconds: number;
  readonly cpuAlertPercent: number;
  /** null: no such alerts; these three. */
  readonly memoryAlertPercent: number | null;
  readonly diskAlertPercent: number | null;
  readonly gpuAlertPercent: number | null;
  readonly alertCooldownSeconds: number;
  readonly maxPayloadBytes: number;
  readonly maxDevices: number;
  readonly summaryIntervalSeconds: number;
  readonly slackWebhookUrl: string | null;
  readonly slackMinSeverity: LeastSeverity;
  readonly webhookUrls: readonly string[] | null;
  /** `whsec_…`, the newest first. */
  readonly webhookSecrets: readonly string[] | null;
  readonly webhookMinSeverity: LeastSeverity;
  readonly webhookAllowPrivate: boolean;
  readonly smtpUrl: string | null;
  readonly emailFrom: string | null;
  readonly emailTo: readonly string[] | null;
  readonly emailMinSeverity: LeastSeverity;
  readonly billingWebhookSecrets: readonly string[] | null;
  readonly billingIpAllowlist: readonly string[] | null;
  readonly trialDays: number;
  readonly logLevel: LogLevel;
  readonly otlpEndpoint: string | null;
  /** True when NODE_ENV is `production`. */
  readonly production: boolean;
}
