/**
 * The fixed bounds of the wire: what a peer may send at most. `docs/protocol.md` and a test list exactly these rows.
 * Bounds that an operator may change are settings (`docs/settings.md`), not rows here.
 */

/** One row: the number, its unit, what it bounds. @public */
export interface LimitRow {
  readonly value: number;
  readonly unit: string;
  readonly prose: string;
}

/** The fixed bounds by name. */
export const LIMITS = {
  bodyBytes: { value: 262_144, unit: 'bytes', prose: 'an HTTP body' },
  headerBytes: { value: 16_384, unit: 'bytes', prose: 'the headers of an HTTP request or a WebSocket handshake' },
  readingsPerEnvelope: { value: 500, unit: 'readings', prose: 'the readings of one envelope' },
  samplesPerPacket: { value: 1000, unit: 'samples', prose: 'the samples of an axis of a waveform packet' },
  jwsHeaderBytes: { value: 512, unit: 'characters', prose: 'the protected header of an envelope, as base64url' },
  readingAheadMs: { value: 30_000, unit: 'ms', prose: 'how far ahead of the server a reading may lie' },
  readingBehindMs: { value: 604_800_000, unit: 'ms', prose: 'how far back a reading may lie' },
  envelopeIdKeptMs: { value: 604_800_000, unit: 'ms', prose: 'how long an envelope id is remembered' },
  frameIdKeptMs: {
    value: 3_600_000,
    unit: 'ms',
    prose: 'how long a frame of MQTT is remembered at least, so that its second delivery changes nothing',
  },
  listDefault: { value: 50, unit: 'items', prose: 'a page of a list when `limit` is absent' },
  listMost: { value: 500, unit: 'items', prose: 'a page of a list' },
  statisticsBuckets: { value: 3000, unit: 'buckets', prose: 'the buckets of an answer of statistics' },
  resumeMessages: { value: 10_000, unit: 'messages', prose: 'the gap that a viewer may resume over' },
  socketBufferBytes: {
    value: 65_536,
    unit: 'bytes',
    prose: 'what waits in the socket of a viewer; the rest waits in its queue',
  },
  viewerQueueMessages: {
    value: 1000,
    unit: 'messages',
    prose: 'what waits in the queue of a viewer before it is closed with 4008',
  },
  viewerQueueBytes: {
    value: 4_194_304,
    unit: 'bytes',
    prose: 'what waits in the queue of a viewer before it is closed with 4008',
  },
  handshakeMs: { value: 5000, unit: 'ms', prose: 'a WebSocket handshake, credentials included' },
  pongMs: { value: 10_000, unit: 'ms', prose: 'the wait for a pong' },
  ticketMs: { value: 30_000, unit: 'ms', prose: 'the life of a WebSocket ticket' },
  nameCharacters: { value: 200, unit: 'characters', prose: 'the name of a zone, a city or an API key' },
  emailCharacters: { value: 254, unit: 'characters', prose: 'an e-mail address' },
  passwordCharacters: { value: 256, unit: 'characters', prose: 'a password, at most' },
  passwordLeastCharacters: { value: 8, unit: 'characters', prose: 'a password, at least' },
  apiKeyCharacters: { value: 256, unit: 'characters', prose: 'an API key, at most' },
  apiKeyLeastCharacters: { value: 8, unit: 'characters', prose: 'an API key, at least' },
  tokenCharacters: { value: 8192, unit: 'characters', prose: 'an access token' },
  fingerprintCharacters: {
    value: 256,
    unit: 'characters',
    prose: 'the fingerprint of a device at sign-in and refresh',
  },
  headlineCharacters: { value: 200, unit: 'characters', prose: 'the headline of an alert' },
  descriptionCharacters: { value: 4000, unit: 'characters', prose: 'the description of an alert' },
  evidenceEnvelopes: { value: 200, unit: 'envelopes', prose: 'the envelopes that the evidence of an alert names' },
  mqttConnectMs: { value: 5000, unit: 'ms', prose: 'MQTT: the wait for CONNECT and its check, TLS included' },
  mqttConnectBytes: { value: 16_384, unit: 'bytes', prose: 'MQTT: a packet that is no PUBLISH' },
  mqttSkippedBytes: {
    value: 1_048_576,
    unit: 'bytes',
    prose:
      'MQTT: a PUBLISH that is too large to be taken is skipped and acknowledged up to here; over it the connection is cut',
  },
  mqttTopicBytes: { value: 1024, unit: 'bytes', prose: 'MQTT: the topic of a message that is taken' },
  mqttClientIdCharacters: { value: 128, unit: 'characters', prose: 'MQTT: a client id' },
  mqttKeepAliveSeconds: { value: 600, unit: 's', prose: 'MQTT: the keep-alive; more, or none, counts as this' },
  mqttInFlight: { value: 32, unit: 'messages', prose: 'MQTT: messages of a connection that are not yet answered' },
  mqttHoldMs: {
    value: 20_000,
    unit: 'ms',
    prose: 'MQTT: how long a message is held that cannot be stored; then the connection is cut',
  },
  mqttConnections: { value: 20_000, unit: 'connections', prose: 'MQTT: connections of a process' },
  mqttConnectionsPerAddress: { value: 5000, unit: 'connections', prose: 'MQTT: connections of an address' },
  mqttConnectsPerMinute: {
    value: 15,
    unit: 'connects',
    prose: 'MQTT: connects of a client a minute before it is banned',
  },
  mqttBanMs: { value: 300_000, unit: 'ms', prose: 'MQTT: a ban' },
} as const;
