/**
 * Stages: the device of a frame. Hosts need no registration: one that is not known yet becomes a self-reported device, but
 * only once everything else has let its frame pass, so that nothing is written for what is refused.
 */
import type { Refusal } from '@tocsin/protocol/errors';
import { RefusalError } from '@tocsin/protocol/refusal-error';
import { mayNotSpeak, type LookUpDevice } from './device.ts';
import type { IngestDevice, Stage } from './stage.ts';

/**
 * Makes an unknown host a device, or finds the one that others made meanwhile; null: there is no room for more. Rejects
 * with `store-unavailable`, or with a refusal when too many come at once.
 */
export type EnrolDevice = (deviceId: string) => Promise<IngestDevice | null>;

const NO_ROOM: Refusal = {
  code: 'device-cap',
  detail: 'There are as many hosts without a key as there may be (ten times MAX_DEVICES)',
};
const NO_HOST: Refusal = {
  code: 'schema',
  detail: '/device_id is a device of another kind',
  errors: [{ pointer: '/device_id', detail: 'is a device of another kind' }],
};

/** 403 and 423 for a known device that may not speak, 422 for one that is no host; an unknown one passes. */
export function findHost(lookUp: LookUpDevice): Stage {
  return (draft) => {
    const decide = (device: IngestDevice | null): Refusal | null => {
      draft.device = device;
      return device === null ? null : refusalOf(device);
    };
    const device = lookUp(draft.deviceId ?? '');
    return device instanceof Promise ? device.then(decide) : decide(device);
  };
}

/** Enrols a device that is not known yet. */
export function enrolHost(enrol: EnrolDevice): Stage {
  return (draft) => (draft.device === null ? made(enrol, draft) : null);
}

async function made(enrol: EnrolDevice, draft: Parameters<Stage>[0]): Promise<Refusal | null> {
  try {
    const device = await enrol(draft.deviceId ?? '');
    draft.device = device;
    return device === null ? NO_ROOM : refusalOf(device);
  } catch (error) {
    if (error instanceof RefusalError) return error.refusal;
    throw error;
  }
}

function refusalOf(device: IngestDevice): Refusal | null {
  return mayNotSpeak(device) ?? (device.profile === 'host' ? null : NO_HOST);
}
