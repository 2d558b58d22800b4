/**
 * Everyone at the door of the embedded broker, from the first byte of TCP on: how many there may be, in all, for an address, and
 * before they have said who they are.
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
  strangers: number;
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
  const counts = new Map<string, Count>();
  const all: Count = { all: 0, strangers: 0 };

  const change = (key: string | null, part: keyof Count, by: 1 | -1): void => {
    all[part] += by;
    if (key === null) return;
    const count = counts.get(key) ?? { all: 0, strangers: 0 };
    count[part] += by;
    if (count.all === 0) counts.delete(key);
    else counts.set(key, count);
  };
  const hasRoom = (key: string | null): boolean => {
    const own = (key === null ? undefined : counts.get(key)) ?? { all: 0, strangers: 0 };
    return (
      all.all < LIMITS.mqttConnections.value &&
      own.all < LIMITS.mqttConnectionsPerAddress.value &&
      all.strangers < STRANGERS_MOST &&
      own.strangers < STRANGERS_OF_ADDRESS
    );
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
      change(key, 'all', 1);
      change(key, 'strangers', 1);
      raw.once('close', () => {
        if (!peer.known) change(key, 'strangers', -1);
        change(key, 'all', -1);
        if (peers.get(name) === peer) peers.delete(name);
      });
      return true;
    },
    get: (name) => peers.get(name),
    introduce(connection) {
      const peer = peers.get(connection.peer);
      if (peer === undefined || peer.known) return;
      peer.known = true;
      change(peer.key, 'strangers', -1);
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
