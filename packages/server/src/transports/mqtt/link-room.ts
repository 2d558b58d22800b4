/**
 * What a link keeps in memory at most: messages that are at `take`, that wait to be tried again, or whose acknowledgement
 * waits for those before. One room for all connections of a link, so that what an ended connection still has at `take`
 * counts on the next one too. Pure.
 */

/** Room for messages. */
export interface Room {
  /** A message has come; there may be one more than fits for each connection. */
  enter(bytes: number): void;
  leave(bytes: number): void;
  full(): boolean;
  /** Calls back once when there is room; at once when there is some. */
  whenRoom(callback: () => void): void;
  /** Messages that are in it. */
  messages(): number;
}

/** Room for so many messages and bytes. */
export function createRoom(most: { readonly messages: number; readonly bytes: number }): Room {
  let messages = 0;
  let bytes = 0;
  let waiting: (() => void)[] = [];
  const full = (): boolean => messages >= most.messages || bytes >= most.bytes;
  return {
    enter(size) {
      messages += 1;
      bytes += size;
    },
    leave(size) {
      messages -= 1;
      bytes -= size;
      if (waiting.length === 0 || full()) return;
      const woken = waiting;
      waiting = [];
      for (const callback of woken) callback();
    },
    full,
    whenRoom(callback) {
      if (full()) waiting.push(callback);
      else callback();
    },
    messages: () => messages,
  };
}
