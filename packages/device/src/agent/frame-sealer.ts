/** A host without a key: its readings travel as frames (section 4 of the contract), not as signed envelopes. Pure. */
import type { HostReading } from '@tocsin/protocol/envelope';
import { frameOf } from '@tocsin/protocol/frame';
import type { Signer } from '../envelope.ts';

/**
 * Writes the one reading of an envelope as the frame of `deviceId`. The same reading gives the same text however often it
 * is sent: the server knows a frame that comes again by its content.
 */
export function createFrameSealer(deviceId: string): Signer {
  return {
    deviceId,
    seal: ({ readings: [reading] }) => JSON.stringify(frameOf(deviceId, reading as HostReading)),
  };
}
