/**
 * The library behind the embedded broker (aedes 1.2): it speaks CONNACK, PUBACK, PUBREC, PUBCOMP, SUBACK, UNSUBACK and
 * PINGRESP to clients whose packets were checked before. It forwards, stores and remembers nothing:
 * - no will, session, retained message or subscription reaches it; every filter of a SUBSCRIBE gets 0x80;
 * - its emitter and its persistence are the empty ones of this file, so a publish ends where it was acknowledged. Of QoS 2 the
 *   connection remembers some identifiers that wait for their release.
 */
import { Readable } from 'node:stream';
import { Aedes, type Client } from 'aedes';
import type { Connection } from './embedded-connection.ts';
import type { PacketStream } from './embedded-stream.ts';

/** The library, as the broker uses it. */
export interface Library {
  /** Takes a client whose first packet will be its CONNECT. */
  open(connection: Connection, stream: PacketStream): void;
  close(): Promise<void>;
}

/** Starts it. */
export async function createLibrary(failed: (error: unknown) => void): Promise<Library> {
  const connections = new WeakMap<object, Connection>();
  const of = (client: Client | null): Connection | undefined =>
    client === null ? undefined : connections.get(client.conn);
  const broker = await Aedes.createBroker({
    mq: EMITTER,
    persistence: createPersistence((client) => connections.get(client.conn)),
    // Who is not one of ours is nobody.
    authenticate: (client, _username, _password, done) => done(null, of(client) !== undefined),
    authorizePublish(client, { topic, payload, qos }, done) {
      const connection = of(client);
      // A will of its own making, or a client that is gone: nothing is taken, nothing is answered.
      if (connection === undefined) return;
      const bytes = typeof payload === 'string' ? Buffer.from(payload) : payload;
      connection.accept(topic, bytes, qos, () => done(null));
    },
    authorizeSubscribe: (_client, _subscription, done) => done(null, null),
    authorizeForward: () => null,
    heartbeatInterval: HEARTBEAT_MS,
  });
  broker.on('clientReady', (client) => of(client)?.opened());
  broker.on('error' as 'closed', failed as () => void);
  return {
    open(connection, stream) {
      connections.set(stream, connection);
      broker.handle(stream);
    },
    close: () => new Promise((resolve) => broker.close(() => resolve())),
  };
}

/** Its own housekeeping has nothing to do here; as seldom as a timer may be. */
const HEARTBEAT_MS = 3_600_000;

type Done = () => void;

/** Carries nothing to nobody. */
const EMITTER = {
  on: (_topic: string, _listener: unknown, done?: Done): void => later(done),
  emit: (_packet: unknown, done?: Done): void => later(done),
  removeListener: (_topic: string, _listener: unknown, done?: Done): void => later(done),
  close: (done?: Done): void => later(done),
};

function later(done: Done | undefined): void {
  if (done !== undefined) setImmediate(done);
}

interface Numbered {
  readonly messageId: number;
}

/** Keeps nothing but the identifiers of QoS 2. The shape is that of `aedes-persistence`, as far as the library calls it. */
function createPersistence(of: (client: { readonly conn: object }) => Connection | undefined): object {
  const nothing = async (): Promise<void> => undefined;
  const none = async (): Promise<readonly never[]> => [];
  const empty = (): Readable => Readable.from([]);
  return {
    setup: nothing,
    storeRetained: nothing,
    addSubscriptions: nothing,
    removeSubscriptions: nothing,
    cleanSubscriptions: nothing,
    subscriptionsByClient: none,
    subscriptionsByTopic: none,
    outgoingEnqueue: nothing,
    outgoingEnqueueCombi: nothing,
    outgoingUpdate: nothing,
    outgoingClearMessageId: nothing,
    outgoingStream: empty,
    createRetainedStreamCombi: empty,
    putWill: nothing,
    delWill: nothing,
    streamWill: empty,
    // Every identifier is there, so that the library answers and keeps nothing; it is asked after the verdict, and at the release.
    async incomingGetPacket(client: Client, { messageId }: Numbered) {
      of(client)?.remember(messageId);
      return { messageId };
    },
    async incomingDelPacket(client: Client, { messageId }: Numbered) {
      of(client)?.forget(messageId);
    },
    cleanIncoming: nothing,
  };
}
