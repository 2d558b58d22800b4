/**
 * The live state of hosts: the last frame of each device that was heard within the pruning window, the same in every
 * instance of the installation. Types only; the board itself is `live-state.ts`.
 */
import type { HostFrame } from '@tocsin/protocol/frame';

/** A device's last frame. */
export interface LiveDevice {
  readonly frame: HostFrame;
  /** When it arrived at ingest, Unix ms. */
  readonly heardAt: number;
}

/** The last frames. */
export interface LiveBoard {
  /** A frame has become durable: shows it here and tells the other instances. Costs no I/O that is waited for. */
  heard(device: LiveDevice): void;
  /** Those heard within the window, by device id, as of now. */
  active(): ReadonlyMap<string, LiveDevice>;
  /** Whether the device is among them. */
  has(deviceId: string): boolean;
  /** How many they are. */
  size(): number;
}
