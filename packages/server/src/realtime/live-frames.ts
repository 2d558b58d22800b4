/**
 * The frames of live devices as viewers are sent them: each built once, whoever gets it, and the latest of each kept, so that
 * who is behind needs no queue of its own.
 *
 * Every change has a number that rises. A viewer that has everything up to a number lacks exactly the devices whose last
 * change has a greater one. Slots are walked in one order, whatever changes meanwhile: nobody's device starves.
 * Forms: `tocsin` (messages `metrics` and `snapshot`), `raw` (objects of frames alone, as the original bridge has them).
 */
import { JOIN_BYTES } from './chunk.ts';
import { textFrame } from './frame.ts';
import type { LiveDevice } from './live-board.ts';
import { frameText } from './live-state.ts';

/** How a connection is spoken to. */
export type LiveForm = 'tocsin' | 'raw';

const MESSAGES: Readonly<Record<LiveForm, (type: 'metrics' | 'snapshot', members: string) => string>> = {
  tocsin: (type, members) => `{"type":"${type}","data":{${members}}}`,
  raw: (_type, members) => `{${members}}`,
};

/** Messages that leave together; who had all before them then has everything up to the change `upTo`. */
export interface LiveChunk {
  readonly bytes: Buffer;
  readonly messages: number;
  readonly upTo: number;
}

/** Changes after `after`, up to and with `upTo`, that were numbered together. */
export interface LiveBatch {
  readonly after: number;
  readonly upTo: number;
  /** Their messages, joined. Built when first asked for. */
  chunks(form: LiveForm): readonly LiveChunk[];
}

/** A walk over all devices that changed after `after`; what changes after `upTo` is for the next one. */
export interface LiveWalk {
  readonly after: number;
  readonly upTo: number;
  /** The slot that comes next. */
  slot: number;
}

interface Slot {
  readonly device: LiveDevice;
  /** The number of its last change; 0: not numbered yet. */
  change: number;
  member: string | null;
  readonly frames: Record<LiveForm, Buffer | null>;
}

/** Frames joined up to {@link JOIN_BYTES}. */
class Joiner {
  readonly #frames: Buffer[] = [];
  #size = 0;

  get messages(): number {
    return this.#frames.length;
  }

  full(frame: Buffer): boolean {
    return this.#size > 0 && this.#size + frame.length > JOIN_BYTES;
  }

  add(frame: Buffer): void {
    this.#frames.push(frame);
    this.#size += frame.length;
  }

  bytes(): Buffer {
    return Buffer.concat(this.#frames, this.#size);
  }
}

/** The frames. A class, as it is one thing with one state that several look at. */
export class LiveFrames {
  readonly #slots: (Slot | null)[] = [];
  readonly #free: number[] = [];
  readonly #places = new Map<string, number>();
  /** Slots whose change has no number yet, in the order of their first change. */
  #changed = new Set<number>();
  #last = 0;
  #removals = 0;

  /** The number of the last change. */
  get last(): number {
    return this.#last;
  }

  /** How many devices have left so far. */
  get removals(): number {
    return this.#removals;
  }

  get size(): number {
    return this.#places.size;
  }

  /** True when there are changes without a number. */
  get pending(): boolean {
    return this.#changed.size > 0;
  }

  /** A device has a new frame. */
  change(device: LiveDevice): void {
    const id = device.frame.device_id;
    const place = this.#places.get(id) ?? this.#free.pop() ?? this.#slots.length;
    const slot: Slot = { device, change: 0, member: null, frames: { tocsin: null, raw: null } };
    this.#places.set(id, place);
    this.#slots[place] = slot;
    this.#changed.add(place);
  }

  /** A device has left. */
  remove(deviceId: string): void {
    const place = this.#places.get(deviceId);
    if (place === undefined) return;
    this.#places.delete(deviceId);
    this.#slots[place] = null;
    this.#free.push(place);
    this.#changed.delete(place);
    this.#removals += 1;
  }

  /** Numbers what has changed; null when nothing has. */
  number(): LiveBatch | null {
    if (this.#changed.size === 0) return null;
    const after = this.#last;
    const slots = [...this.#changed].flatMap((place) => this.#slots[place] ?? []);
    this.#changed = new Set();
    for (const slot of slots) slot.change = ++this.#last;
    const built: Partial<Record<LiveForm, readonly LiveChunk[]>> = {};
    return {
      after,
      upTo: this.#last,
      chunks: (form) => {
        built[form] ??= this.#chunks(slots, after, form);
        return built[form];
      },
    };
  }

  /** All devices in one message. */
  snapshot(form: LiveForm): Buffer {
    const members: string[] = [];
    for (const slot of this.#slots) if (slot !== null) members.push(this.#member(slot));
    return textFrame(MESSAGES[form]('snapshot', members.join(',')));
  }

  /** The next chunk of a walk and moves it on; null when the walk is over. */
  walk(walk: LiveWalk, form: LiveForm): Pick<LiveChunk, 'bytes' | 'messages'> | null {
    const joiner = new Joiner();
    for (; walk.slot < this.#slots.length; walk.slot++) {
      const slot = this.#slots[walk.slot];
      if (slot === undefined || slot === null || (slot.change !== 0 && slot.change <= walk.after)) continue;
      const frame = this.#frame(slot, form);
      if (joiner.full(frame)) break;
      joiner.add(frame);
    }
    return joiner.messages === 0 ? null : { bytes: joiner.bytes(), messages: joiner.messages };
  }

  #chunks(slots: readonly Slot[], after: number, form: LiveForm): readonly LiveChunk[] {
    const chunks: LiveChunk[] = [];
    let joiner = new Joiner();
    let upTo = after;
    const close = (): void => {
      if (joiner.messages > 0) chunks.push({ bytes: joiner.bytes(), messages: joiner.messages, upTo });
      joiner = new Joiner();
    };
    for (const slot of slots) {
      const frame = this.#frame(slot, form);
      if (joiner.full(frame)) close();
      joiner.add(frame);
      upTo = slot.change;
    }
    close();
    return chunks;
  }

  #member(slot: Slot): string {
    const { frame } = slot.device;
    slot.member ??= `${JSON.stringify(frame.device_id)}:${frameText(frame)}`;
    return slot.member;
  }

  #frame(slot: Slot, form: LiveForm): Buffer {
    slot.frames[form] ??= textFrame(MESSAGES[form]('metrics', this.#member(slot)));
    return slot.frames[form];
  }
}
