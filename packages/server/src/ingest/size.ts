/** Stage: how large a message may be. For transports that have no door of their own for it (MQTT). */
import type { Stage } from './stage.ts';

/** 413 for more than `most` bytes. The draft's body has a character for each byte. */
export function limitSize(most: number): Stage {
  return ({ body }) =>
    body.length <= most ? null : { code: 'body-too-large', detail: `The message has more than ${most} bytes` };
}
