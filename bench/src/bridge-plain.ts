/**
 * The plain bridge that Tocsin is measured beside: mqtt.js and `ws`, no checks, nothing stored. What comes from the broker is
 * parsed and sent to every WebSocket. A process of its own.
 */
import { connect } from 'mqtt';
import { WebSocket, WebSocketServer } from 'ws';
import { serveParent } from './helper.ts';

/** The one thing that it can be asked: to begin; answers the port of its WebSockets. */
export interface PlainAsk {
  readonly brokerPort: number;
  readonly topic: string;
}

serveParent<PlainAsk>(async ({ brokerPort, topic }) => {
  const server = new WebSocketServer({ port: 0, host: '127.0.0.1', perMessageDeflate: false });
  const client = connect({ host: '127.0.0.1', port: brokerPort, protocol: 'mqtt', protocolVersion: 5, clean: true });
  client.on('message', (_topic, payload) => {
    const frame = JSON.parse(payload.toString()) as { readonly device_id: string };
    const message = JSON.stringify({ [frame.device_id]: frame });
    for (const socket of server.clients) if (socket.readyState === WebSocket.OPEN) socket.send(message);
  });
  await client.subscribeAsync(topic, { qos: 1 });
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('no port');
  return address.port;
});
