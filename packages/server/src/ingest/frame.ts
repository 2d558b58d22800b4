/**
 * Stages: the text of a host's frame (section 4 of the contract), unsigned, from the topic of its device. First what it
 * is (400), then, once its device may speak, what in it breaks the rules (422).
 *
 * A frame has no id of its own. What tells it from others of its device is its `timestamp` and a digest of its numbers, so
 * that the same frame delivered twice is one.
 */
import { isUtf8 } from 'node:buffer';
import { createHash } from 'node:crypto';
import type { HostReading } from '@tocsin/protocol/envelope';
import type { ErrorDetail, Refusal } from '@tocsin/protocol/errors';
import type { Stage } from './stage.ts';

/** Reads a frame's text (see `profiles/host/frame.ts`). */
export type ParseFrame = (
  text: string,
  deviceId: string,
) =>
  | { readonly kind: 'malformed' }
  | { readonly kind: 'broken'; readonly errors: readonly ErrorDetail[] }
  | { readonly kind: 'frame'; readonly reading: HostReading };

/** 96 bits: among frames of one device in one second. */
const DIGEST_CHARACTERS = 16;

const NOT_JSON: Refusal = { code: 'malformed-json', detail: 'The frame is not JSON' };

/** 400 for what is not JSON in UTF-8. The draft's body has a character for each byte (latin1). */
export function readFrame(parse: ParseFrame): Stage {
  return (draft) => {
    const bytes = Buffer.from(draft.body, 'latin1');
    if (!isUtf8(bytes)) return NOT_JSON;
    draft.deviceId = draft.topicDevice;
    const frame = parse(bytes.toString('utf8'), draft.deviceId ?? '');
    if (frame.kind === 'malformed') return NOT_JSON;
    draft.payload = frame.kind === 'frame' ? frame.reading : frame.errors;
    return null;
  };
}

/** 422 for what breaks the rules; else the frame is an envelope of one reading from here on. */
export const checkFrame: Stage = (draft) => {
  if (Array.isArray(draft.payload)) return broken(draft.payload as ErrorDetail[]);
  const reading = draft.payload as HostReading;
  const { at } = reading;
  const content = JSON.stringify(reading);
  const digest = createHash('sha256').update(content).digest('base64url').slice(0, DIGEST_CHARACTERS);
  const id = `${at / 1000}-${digest}`;
  draft.envelope = { id, at, profile: 'host', readings: [reading] };
  draft.identity = id;
  draft.record = `{"id":"${id}","at":${at},"profile":"host","readings":[${content}]}`;
  return null;
};

function broken(errors: readonly ErrorDetail[]): Refusal {
  const first = errors[0];
  return { code: 'schema', detail: `${first?.pointer === '' ? 'The frame' : first?.pointer} ${first?.detail}`, errors };
}
