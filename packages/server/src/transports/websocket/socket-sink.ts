/**
 * The hub's way to a socket: whole frames straight to the raw socket beside `ws`. Safe because `ws` sends each frame of its
 * own in one synchronous cork/write/uncork, compression is off, and nothing is written once the connection is not open.
 */
import type { Duplex } from 'node:stream';
import { WebSocket } from 'ws';
import type { WebSocketSink } from './options.ts';

const NOTHING = Buffer.alloc(0);

/** Creates the sink of an open connection. `onClose` hears of every close that the server begins. */
export function createSocketSink(ws: WebSocket, socket: Duplex, onClose: (code: number) => void): WebSocketSink {
  return {
    get open(): boolean {
      return ws.readyState === WebSocket.OPEN && !socket.destroyed;
    },
    get writableLength(): number {
      return socket.writableLength;
    },
    write(bytes) {
      socket.write(bytes);
    },
    cork: () => socket.cork(),
    uncork: () => socket.uncork(),
    whenDrained(callback) {
      if (socket.writableNeedDrain) {
        socket.once('drain', callback);
        return;
      }
      // Below its high water mark a socket emits no 'drain'; an empty write is done when everything before it is.
      socket.write(NOTHING, (error) => {
        if (error === null || error === undefined) callback();
      });
    },
    close(code, reason) {
      if (ws.readyState !== WebSocket.OPEN) return;
      onClose(code);
      ws.close(code, reason);
    },
  };
}
