/**
 * The embedded broker: MQTT 3.1.1 for devices that have no broker of their own (contract, section 4).
 *
 * Guarantees: a message of QoS 1 or 2 is acknowledged only after its verdict, so what was acknowledged is durable or was
 * refused for good; the messages of a device are taken in their order on each connection; nobody hears anything of anybody;
 * everything that a peer controls is bounded (`LIMITS`, and the named bounds of the files beside this one).
 * Order: `start`, …, `drain` (takes nobody and nothing new, lets what is on its way end), `stop`.
 * Failure: `start` rejects as `listen` does.
 */
import { createHash } from 'node:crypto';
import { throttled } from '../../ops/throttled-log.ts';
import { createAddressList } from '../http/address.ts';
import type { TlsOptions } from '../http/server-socket.ts';
import { createDoor, type Door } from './embedded-admission.ts';
import { createBans } from './embedded-bans.ts';
import { Connection, type ConnectionHome, type Speaker } from './embedded-connection.ts';
import { holderName } from './embedded-credentials.ts';
import { createLibrary, type Library } from './embedded-library.ts';
import { createListener, type Listener } from './embedded-listener.ts';
import type { EmbeddedOptions, RefusedConnect } from './embedded-options.ts';
import { LEVELS_MOST } from './embedded-packets.ts';
import { createPeers, type Peers } from './embedded-peers.ts';
import { createStandingWatch } from './embedded-standing.ts';
import { deviceTopic } from './topic.ts';

const SWEEP_MS = 1000;
const LINE_MS = 1000;
/** Another process tells that a client is with it now. */
const OPENED_TOPIC = 'mqtt:opened';

/** The broker. */
export interface EmbeddedBroker {
  /** Resolves with the port that it got. */
  start(): Promise<number>;
  /** True while it listens. */
  listening(): boolean;
  /** Open connections. */
  connections(): number;
  /** For connections from now on. Throws where OpenSSL refuses them; then nothing has changed. */
  replaceCertificates(tls: TlsOptions): void;
  /** Takes nobody and nothing new; resolves when all are gone, at the latest after `deadlineMs`. */
  drain(deadlineMs: number): Promise<void>;
  /** Cuts what is left. */
  stop(): Promise<void>;
}

/** Those who have a client id, by holder and id: the newest wins. */
interface Takeover {
  enter(connection: Connection, who: Speaker): void;
  leave(connection: Connection, who: Speaker): void;
  start(): Promise<() => Promise<void>>;
}

function createTakeover({ bus }: EmbeddedOptions, failed: (error: unknown) => void): Takeover {
  const holders = new Map<string, Connection>();
  const nameOf = ({ connect, holder }: Speaker): string =>
    createHash('sha256')
      .update(`${holderName(holder)}\n${connect.clientId}`)
      .digest('base64url');
  return {
    enter(connection, who) {
      if (who.connect.clientId === '') return;
      const name = nameOf(who);
      holders.get(name)?.close('replaced');
      holders.set(name, connection);
      bus.pubsub.publish(OPENED_TOPIC, `${name} ${connection.id}`).catch(failed);
    },
    leave(connection, who) {
      const name = nameOf(who);
      if (holders.get(name) === connection) holders.delete(name);
    },
    start: () =>
      bus.pubsub.subscribe(OPENED_TOPIC, (payload) => {
        const [name = '', id = ''] = payload.split(' ');
        const connection = holders.get(name);
        if (connection !== undefined && connection.id !== id) connection.close('replaced');
      }),
  };
}

function createHome(
  options: EmbeddedOptions,
  parts: {
    readonly door: Door;
    readonly peers: Peers;
    readonly takeover: Takeover;
    readonly library: () => Library | null;
    readonly refused: (reason: RefusedConnect, address: string) => void;
  },
): ConnectionHome {
  const { metrics, clock } = options;
  const { door, peers, takeover } = parts;
  const filters = options.settings.filters.map(deviceTopic);
  return {
    options,
    deviceOf(topic) {
      if (topic.split('/', LEVELS_MOST + 1).length > LEVELS_MOST) return null;
      return filters.reduce<string | null>((found, filter) => found ?? filter.deviceOf(topic), null);
    },
    memory: { held: 0 },
    admit: (connection, connect) => door.admit(connection, connect),
    open: (connection, stream) => parts.library()?.open(connection, stream),
    opened(connection, who) {
      metrics.connections(1);
      peers.introduce(connection);
      door.opened(connection, who);
      takeover.enter(connection, who);
    },
    refused(connection, reason) {
      parts.refused(reason, connection.address);
      door.refused(connection, reason);
    },
    ended(connection, who, reason) {
      metrics.connections(-1);
      metrics.ended(reason);
      takeover.leave(connection, who);
      door.ended(connection, who, reason, clock.monotonic());
    },
  };
}

/** Creates it; nothing listens before `start`. */
export function createEmbeddedBroker(options: EmbeddedOptions): EmbeddedBroker {
  const { clock, metrics, settings } = options;
  const lines = throttled(options.log, LINE_MS, clock);
  const failed = (error: unknown): void =>
    void lines.warn('mqtt-failed', { err: error }, 'the embedded broker could not reach a part');
  const refused = (reason: RefusedConnect, address: string): void => {
    metrics.refused(reason);
    // Who comes and says nothing is no news: balancers do so all the time.
    if (reason !== 'abandoned') lines.warn(`mqtt-${reason}`, { address }, 'MQTT connect refused');
  };
  const banned = (by: 'id' | 'user' | 'address'): void => {
    metrics.banned(by);
    lines.warn(`mqtt-ban-${by}`, { by }, 'an MQTT client that comes and goes was banned');
  };
  const bans = createBans({ ...options.bus, clock, banned });
  const peers = createPeers(() => clock.monotonic(), createAddressList(settings.trustedProxies));
  const takeover = createTakeover(options, failed);
  const door = createDoor(options.identity, bans, failed);
  const standing = createStandingWatch(options.identity, failed);
  let library: Library | null = null;
  let listening = false;
  let draining = false;
  const home = createHome(options, { door, peers, takeover, library: () => library, refused });
  const listener: Listener = createListener(options.tls, {
    arrived(raw) {
      if (draining) return false;
      const entered = peers.enter(raw);
      if (!entered) refused('crowded', raw.remoteAddress ?? '');
      return entered;
    },
    ready(socket, name) {
      const peer = peers.get(name);
      if (peer === undefined || draining) return void socket.destroy();
      if (peer.key !== null && bans.bannedHere(peer.key)) {
        refused('banned', peer.address);
        return void socket.destroy();
      }
      peer.connection = new Connection(socket, { name, ...peer }, home);
    },
    failed: () => metrics.refused('tls'),
    error: failed,
  });
  const ends: (() => unknown)[] = [];

  function sweep(): void {
    const now = clock.monotonic();
    const connections = peers.connections();
    peers.expire();
    for (const connection of connections) connection.upkeep(now);
    void standing.look(connections, clock.now());
  }

  return {
    async start() {
      library = await createLibrary(failed);
      ends.push(() => library?.close());
      const port = await listener.listen(settings.host, settings.port);
      listening = true;
      const timer = setInterval(sweep, options.sweepMs ?? SWEEP_MS);
      ends.push(
        () => clearInterval(timer),
        standing.listen(() => peers.connections()),
        await takeover.start(),
      );
      return port;
    },
    listening: () => listening,
    connections: () => peers.connections().filter(({ speaker }) => speaker !== null).length,
    replaceCertificates: (tls) => listener.replaceCertificates(tls),
    async drain(deadlineMs) {
      draining = true;
      if (listening) listener.close();
      listening = false;
      let timer: NodeJS.Timeout | undefined;
      const late = new Promise((resolve) => {
        timer = setTimeout(resolve, deadlineMs);
      });
      await Promise.race([Promise.all(peers.connections().map((connection) => connection.drain())), late]);
      clearTimeout(timer);
      for (const connection of peers.connections()) connection.close('end');
    },
    async stop() {
      draining = true;
      if (listening) listener.close();
      listening = false;
      for (const connection of peers.connections()) connection.close('end');
      peers.cut();
      for (const end of ends.splice(0).reverse()) await end();
    },
  };
}
