/**
 * Everyone at the door of the embedded broker, from the first byte of TCP on: how many there may be, in all, for an address, and
 * before they have said who they are. When strangers are too many, the oldest of the address that has most of them goes, so that a
 * few addresses that say nothing do not keep all others out.
 */
import type { Socket } from 'node:net';
import { LIMITS } from '@tocsin/protocol/limits';
import { addressKey, plainAddress } from '../http/address.ts';
import type { Connection } from './embedded-connection.ts';
import { peerName } from './embedded-listener.ts';

/** Peers that have not said who they are: in all, and of an address. */
const STRANGERS_MOST = 2000;
const STRANGERS_OF_ADDRESS = 1000;

/** Somebody at the other end. */
export interface Peer {
  readonly address: string;
  /** What limits count the address by; null: many are behind it. */
  readonly key: string | null;
  /** When it came, monotonic ms. */
  readonly at: number;
  connection: Connection | null;
  known: boolean;
}

interface Count {
  all: number;
  /** Oldest first. */
  readonly strangers: Set<Socket>;
}

/** The peers. */
export interface Peers {
  readonly size: number;
  /** Takes it in; false: there is no room. */
  enter(raw: Socket): boolean;
  get(name: string): Peer | undefined;
  /** It has said who it is. */
  introduce(connection: Connection): void;
  connections(): Connection[];
  /** Cuts those whose TLS handshake takes too long. */
  expire(): void;
  /** Cuts whoever is left. */
  cut(): void;
}

/** Creates the count. `isProxy`: many are behind that address. */
export function createPeers(now: () => number, isProxy: (address: string) => boolean): Peers {
  const peers = new Map<string, Peer & { readonly raw: Socket }>();
  const counts = new Map<string | null, Count>();
  let strangers = 0;

  /** Those behind proxies count together, and have no bound of their own. */
  const countOf = (key: string | null): Count => {
    const count = counts.get(key) ?? { all: 0, strangers: new Set<Socket>() };
    counts.set(key, count);
    return count;
  };
  const left = (key: string | null, raw: Socket): void => {
    const count = countOf(key);
    count.all -= 1;
    acquainted(key, raw);
    if (count.all === 0) counts.delete(key);
  };
  const acquainted = (key: string | null, raw: Socket): void => {
    if (countOf(key).strangers.delete(raw)) strangers -= 1;
  };
  /** Makes room for a stranger where another address has more than one of them more; false: there is none to be made. */
  const makeRoom = (own: Count): boolean => {
    let most = own;
    for (const count of counts.values()) if (count.strangers.size > most.strangers.size) most = count;
    if (most.strangers.size <= own.strangers.size + 1) return false;
    const [oldest] = most.strangers;
    // It counts until it is closed, which is in this turn of the event loop.
    oldest?.destroy();
    return true;
  };
  const hasRoom = (key: string | null): boolean => {
    if (peers.size >= LIMITS.mqttConnections.value) return false;
    const own = countOf(key);
    const fits =
      key === null || (own.all < LIMITS.mqttConnectionsPerAddress.value && own.strangers.size < STRANGERS_OF_ADDRESS);
    const room = fits && (strangers < STRANGERS_MOST || makeRoom(own));
    if (own.all === 0 && !room) counts.delete(key);
    return room;
  };

  return {
    get size(): number {
      return peers.size;
    },
    enter(raw) {
      const address = plainAddress(raw.remoteAddress ?? '');
      const key = isProxy(address) ? null : addressKey(address);
      if (!hasRoom(key)) return false;
      const name = peerName(raw);
      const peer = { address, key, at: now(), connection: null, known: false, raw };
      peers.set(name, peer);
      countOf(key).all += 1;
      countOf(key).strangers.add(raw);
      strangers += 1;
      raw.once('close', () => {
        left(key, raw);
        if (peers.get(name) === peer) peers.delete(name);
      });
      return true;
    },
    get: (name) => peers.get(name),
    introduce(connection) {
      const peer = peers.get(connection.peer);
      if (peer === undefined || peer.known) return;
      peer.known = true;
      acquainted(peer.key, peer.raw);
    },
    connections: () => [...peers.values()].flatMap(({ connection }) => connection ?? []),
    expire() {
      const before = now() - LIMITS.mqttConnectMs.value;
      for (const { connection, at, raw } of peers.values()) if (connection === null && at <= before) raw.destroy();
    },
    cut() {
      for (const { raw } of peers.values()) raw.destroy();
    },
  };
}
