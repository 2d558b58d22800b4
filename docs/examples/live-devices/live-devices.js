/**
 * The live state of hosts over a plain WebSocket: browsers, and Node with the library `ws`.
 *
 *     const live = watchDevices({ url: 'wss://alerts.example.org/ws/devices', token, show: (frames) => draw(frames) });
 *     live.stop();
 *
 * `show` gets a Map of device id to frame after every change, and `fresh`: false while nothing proves that it is up to date.
 */

/** A device that was silent for so long is taken off, ms (PRUNE_SECONDS of the server). */
const PRUNE_MS = 30_000;
const BACK_OFF_MS = [500, 1000, 2000, 5000, 10_000];
/** Close codes after which the same connection would end the same way: replaced by another page, signed out, … */
const FINAL = new Set([1008, 1009, 4001, 4003, 4004]);

export function watchDevices({ url, token, show, WebSocket = globalThis.WebSocket, pruneMs = PRUNE_MS }) {
  const frames = new Map();
  const heard = new Map();
  let socket = null;
  let failures = 0;
  let timer = null;
  /** When the server last proved that we are up to date, and how often it does. */
  let provedAt = 0;
  let everyMs = 10_000;

  const fresh = () => Date.now() - provedAt < 2.5 * everyMs;
  function take(data) {
    for (const [id, frame] of Object.entries(data)) {
      frames.set(id, frame);
      heard.set(id, Date.now());
    }
  }
  function onMessage(text) {
    const message = JSON.parse(text);
    if (message.type === 'welcome') {
      everyMs = message.watermarkSeconds * 1000;
      failures = 0;
      // What we knew is from before; the snapshot, if any device is active, follows.
      frames.clear();
    }
    if (message.type === 'snapshot' || message.type === 'metrics') take(message.data);
    if (message.type === 'welcome' || message.type === 'watermark') provedAt = Date.now();
    // Before a planned end: connect again after the delay; the server closes this connection by itself.
    if (message.type === 'moving') later(message.retryAfterMs);
    show(frames, fresh());
  }
  function open() {
    timer = null;
    // The token travels as a subprotocol, never in the URL; the server answers `tocsin.v1`.
    const opened = new WebSocket(url, ['tocsin.v1', `bearer.${token()}`]);
    socket = opened;
    opened.addEventListener('message', ({ data }) => opened === socket && onMessage(String(data)));
    opened.addEventListener('close', ({ code }) => {
      if (opened === socket && !FINAL.has(code)) later(BACK_OFF_MS[Math.min(failures++, 4)]);
    });
    opened.addEventListener('error', () => undefined);
  }
  function later(ms) {
    timer ??= setTimeout(open, ms);
  }
  const watch = setInterval(() => {
    for (const [id, at] of heard) {
      if (Date.now() - at < pruneMs) continue;
      heard.delete(id);
      frames.delete(id);
    }
    // An open connection proves nothing: without a watermark it is closed, and another one is opened.
    if (socket !== null && provedAt !== 0 && !fresh()) socket.close();
    show(frames, fresh());
  }, 1000);
  open();
  return {
    stop() {
      clearInterval(watch);
      clearTimeout(timer);
      const last = socket;
      socket = null;
      last?.close();
    },
  };
}
