/** The fleet's devices, ready to measure and to sign. */
import { createPrivateKey } from 'node:crypto';
import { createSigner, type Signer } from '../envelope.ts';
import type { Impersonated } from './attacks.ts';
import { type Felt, feel, type Earthquake } from './earthquake.ts';
import type { FleetDevice, FleetOptions } from './fleet.ts';
import type { Random } from './random.ts';
import { hostFrames, isHot, quietTriggers, shakenTrigger } from './readings.ts';
import { PACKET_MS, SHAKING_MS, waveformPacket } from './waveform.ts';

/** A device that can sign. */
export interface FleetSigner extends Impersonated {
  readonly signer: Signer;
  readonly waveform: boolean;
  /** Readings of now (Unix ms `at`, `ms` of the run). */
  measure(at: number, ms: number): object[];
  /** The packet that ends at `ms` of the run. */
  packet(at: number, ms: number): object[];
  /** The trigger of an earthquake's P wave, which passed at `at`. */
  trigger(at: number, felt: Felt): object[];
  /** From now on the device is shaken by it, when it feels it at all. */
  shake(earthquake: Earthquake): Felt | null;
}

/** Builds them all. */
export function createFleetSigners(options: FleetOptions, random: Random): FleetSigner[] {
  const hosts = options.devices.filter(({ profile }) => profile === 'host').length;
  let host = -1;
  return options.devices.map((device, index) => {
    if (device.profile === 'host') host += 1;
    return createFleetSigner(device, index, { host, hosts }, options, random);
  });
}

function createFleetSigner(
  device: FleetDevice,
  index: number,
  { host, hosts }: { readonly host: number; readonly hosts: number },
  { readings, hot }: FleetOptions,
  random: Random,
): FleetSigner {
  const { id, profile, waveform = false } = device;
  const key = createPrivateKey(device.privateKeyPem);
  let felt: Felt[] = [];
  const measure = (at: number, ms: number): object[] => {
    if (profile === 'seismic') return quietTriggers(at, readings, random);
    return hostFrames(at, readings, index, hot !== null && isHot(hot, host, hosts, ms), random);
  };
  return {
    id,
    profile,
    key,
    waveform,
    signer: createSigner(id, key),
    measure,
    reading: (at) => (profile === 'seismic' ? { at, value: 1 } : (hostFrames(at, 1, index, false, random)[0] ?? {})),
    packet(at, ms) {
      felt = felt.filter(({ sMs }) => ms - PACKET_MS < sMs + SHAKING_MS);
      return [waveformPacket(index, ms - PACKET_MS, Math.round(at - PACKET_MS), felt, random)];
    },
    trigger: (at, wave) => [shakenTrigger(wave, at, random)],
    shake(earthquake) {
      const wave = feel(earthquake, device);
      if (wave !== null && waveform) felt.push(wave);
      return wave;
    },
  };
}
