/** Stage: the device is registered and may speak. */
import type { ErrorCode, Refusal } from '@tocsin/protocol/errors';
import type { Standing } from '../store/ports/registry.ts';
import type { IngestDevice, Stage } from './stage.ts';

/** Finds a device; synchronous when it is in memory. Rejects with `store-unavailable`. */
export type LookUpDevice = (id: string) => IngestDevice | null | Promise<IngestDevice | null>;

const REFUSED: Readonly<Record<Exclude<Standing, 'active'>, { code: ErrorCode; detail: string }>> = {
  inactive: { code: 'device-inactive', detail: 'The device is registered as inactive' },
  quarantined: { code: 'device-quarantined', detail: 'The device is quarantined' },
  revoked: { code: 'device-revoked', detail: 'The device is revoked' },
  blocked: { code: 'device-blocked', detail: 'The device is blocked' },
};

/** 403 for a device that is inactive, quarantined or revoked; 423 for a blocked one. */
export function mayNotSpeak({ standing }: IngestDevice): Refusal | null {
  return standing === 'active' ? null : REFUSED[standing];
}

/** As {@link mayNotSpeak}; 403 also for a device that is unknown, or that nobody registered, so that it has no key. */
export function findDevice(lookUp: LookUpDevice): Stage {
  return (draft) => {
    const decide = (device: IngestDevice | null): Refusal | null => {
      if (device === null || device.key === null)
        return { code: 'device-unknown', detail: 'The device is not registered' };
      draft.device = device;
      return mayNotSpeak(device);
    };
    const device = lookUp(draft.deviceId ?? '');
    return device instanceof Promise ? device.then(decide) : decide(device);
  };
}
