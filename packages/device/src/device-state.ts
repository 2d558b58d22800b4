/** What a device is doing, as one value. */
import type { Reason } from './verdict.ts';

/** Why a device waits: a verdict's reason, or trouble with its own folder or key. */
export type WaitReason = Reason | 'folder-unusable' | 'put-off';

/** Times are Unix ms of the corrected clock. */
export type DeviceState =
  | { readonly state: 'idle' }
  | { readonly state: 'sending' }
  /** It goes on by itself. */
  | { readonly state: 'waiting'; readonly until: number; readonly reason: WaitReason }
  /** Nobody but an operator can mend it; it asks again at `until`, and drops nothing. */
  | { readonly state: 'refused'; readonly until: number; readonly reason: Reason }
  | { readonly state: 'closed' };

/** Every state with its meaning, for `docs/device-sdk.md`. */
export const STATES: Readonly<Record<DeviceState['state'], string>> = {
  idle: 'nothing waits',
  sending: 'envelopes are on their way',
  waiting: 'goes on by itself at `until`; `reason` is that of the last answer, `put-off` or `folder-unusable`',
  refused:
    'an operator has to mend what `reason` says; asks again at `until`, with one envelope; nothing is dropped for it',
  closed: 'was closed; what waits is on the disk',
};
