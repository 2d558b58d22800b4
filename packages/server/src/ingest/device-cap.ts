/**
 * Stage: how many hosts may report at once. Those on the live board count, and those whose first frame is on its way there:
 * of many that come in one moment exactly as many are let in as there is room for.
 */
import type { Refusal } from '@tocsin/protocol/errors';
import type { Draft, Stage } from './stage.ts';

/** Who was heard lately (see `realtime/live-board.ts`). */
export interface HeardHosts {
  has(deviceId: string): boolean;
  size(): number;
}

/** The stage, and how it hears that a draft is done with, after the board has. */
export interface DeviceCap {
  readonly stage: Stage;
  finished(draft: Draft): void;
}

const FULL: Refusal = { code: 'device-cap', detail: 'As many hosts report as may at once (MAX_DEVICES)' };

/** Refuses with `device-cap` a host that is not among `heard` while they are `most`. */
export function createDeviceCap(heard: HeardHosts, most: number): DeviceCap {
  /** Newcomers by device: drafts of theirs on their way. */
  const coming = new Map<string, number>();
  const counted = new WeakSet<Draft>();
  return {
    stage: (draft) => {
      const id = draft.deviceId ?? '';
      if (heard.has(id)) return null;
      const drafts = coming.get(id) ?? 0;
      if (drafts === 0 && heard.size() + coming.size >= most) return FULL;
      coming.set(id, drafts + 1);
      counted.add(draft);
      return null;
    },
    finished: (draft) => {
      if (!counted.delete(draft)) return;
      const id = draft.deviceId ?? '';
      const drafts = (coming.get(id) ?? 1) - 1;
      if (drafts === 0) coming.delete(id);
      else coming.set(id, drafts);
    },
  };
}
