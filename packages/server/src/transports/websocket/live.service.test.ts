import { once } from 'node:events';
import { describe, expect, it } from 'vitest';
import { WebSocket } from 'ws';
import { device } from '../../realtime/live-device.suite.ts';
import type { LiveForm } from '../../realtime/live-frames.ts';
import { createLiveHub } from '../../realtime/live-hub.ts';
import { createLiveState, type LiveState } from '../../realtime/live-state.ts';
import type { WebSocketChannel } from './options.ts';
import { clock, start, type System } from './websocket-system.suite.ts';

const DEVICES = 2000;

async function startLive(
  form: LiveForm,
  channel: Partial<WebSocketChannel> = {},
): Promise<{ system: System; state: LiveState }> {
  const state = createLiveState({ clock, windowMs: 3_600_000, most: 10_000 });
  const hub = createLiveHub({ state, clock, watermarkSeconds: 10, ready: () => true, fedAt: () => clock.now() });
  const raw = form === 'raw';
  const access = raw ? 'token' : 'people';
  const system = await start({}, undefined, undefined, {
    hub: hub.door(form),
    filters: false,
    access,
    raw,
    ...channel,
  });
  return { system, state };
}
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

describe('a viewer of the live state', () => {
  it.each(['tocsin', 'raw'] as const)(
    'that reads nothing for a while holds no more than its socket, stays, and then shows what the board shows (%s)',
    async (form) => {
      const { system, state } = await startLive(form);
      const sockets: { readonly writableLength: number }[] = [];
      system.server.on('upgrade', (_request, socket) => sockets.push(socket));
      const client = new WebSocket(system.url, { headers: { authorization: 'Bearer ann' } });
      const shown = new Map<string, number>();
      let messages = 0;
      client.on('message', (text: Buffer) => {
        messages++;
        const message = JSON.parse(text.toString()) as Record<string, unknown>;
        const frames = (form === 'raw' ? message : (message['data'] ?? {})) as Record<string, { cpu_percent: number }>;
        for (const [id, frame] of Object.entries(frames)) shown.set(id, frame.cpu_percent);
      });
      await once(client, 'open');
      client.pause();
      let most = 0;
      for (let round = 0; round < 60; round++) {
        for (let n = 0; n < DEVICES; n++) state.offer(device(`host-${n}`, clock.now(), (n + round) % 101, round));
        await turn();
        await turn();
        most = Math.max(most, ...sockets.map(({ writableLength }) => writableLength));
      }
      // 60 x 400 KB changed; what the kernel took aside, a socket's worth waits.
      expect(most).toBeLessThanOrEqual(65_536);
      client.resume();
      const expected = new Map([...state.active()].map(([id, { frame }]) => [id, frame.cpu_percent]));
      await expect.poll(() => new Map(shown)).toEqual(expected);
      expect(messages).toBeLessThan(60 * DEVICES);
      expect([client.readyState, system.transport.connections()]).toEqual([WebSocket.OPEN, 1]);
      client.terminate();
    },
  );

  it('of the raw form may say anything within the limits, and is told nothing: then 4029, 1009', async () => {
    const { system } = await startLive('raw');
    const heard: unknown[] = [];
    const open = async (): Promise<WebSocket> => {
      const client = new WebSocket(system.url);
      client.on('message', (data) => heard.push(data));
      await once(client, 'open');
      return client;
    };
    const talker = await open();
    const closed = once(talker, 'close');
    for (let n = 0; n < 7; n++)
      talker.send(['{"type":"authenticate","token":"ann"}', '{"type":"ping"}', Buffer.from([1])][n % 3] ?? '');
    expect((await closed)[0]).toBe(4029);
    const shouter = await open();
    shouter.send('x'.repeat(1001));
    expect((await once(shouter, 'close'))[0]).toBe(1009);
    expect(heard).toEqual([]);
  });

  it('of the raw form ends in a drain with 1001 and no word before it', async () => {
    const { system, state } = await startLive('raw');
    state.offer(device('a', clock.now()));
    const client = new WebSocket(system.url);
    const heard: string[] = [];
    client.on('message', (data: Buffer) => heard.push(data.toString()));
    await once(client, 'open');
    const closed = once(client, 'close');
    await system.transport.drain(500);
    expect((await closed)[0]).toBe(1001);
    expect(heard.map((text) => Object.keys(JSON.parse(text) as object))).toEqual([['a']]);
  });

  it('that shows the token of the channel has no holder: no limit of users, nothing to authenticate, offset 0', async () => {
    const { system } = await startLive('tocsin', { opens: (token) => token === 'the-token' });
    const viewers = [];
    for (let n = 0; n < 7; n++) viewers.push(await system.viewer({ token: 'the-token' }));
    expect(system.transport.connections()).toBe(7);
    const [viewer] = viewers;
    viewer?.send({ type: 'received', offset: 0 });
    viewer?.send({ type: 'ping' });
    await viewer?.until(({ type }) => type === 'pong');
    viewer?.send({ type: 'authenticate', token: 'ann' });
    await viewer?.until(({ type }) => type === 'error');
    viewer?.send({ type: 'received', offset: 1 });
    expect((await viewer?.closed)?.code).toBe(1008);
  });
});
