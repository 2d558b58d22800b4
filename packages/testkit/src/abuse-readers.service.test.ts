/** Peers that do not read, read slowly, or send without end, against a server process: memory stays, others are served. */
import { setTimeout as pause } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { type AbuseSystem, answers, startAbuseSystem } from './abuse-system.suite.ts';
import { frameOf, openRawWebSocket, type RawWebSocket } from './raw-websocket.ts';

let system: AbuseSystem;
beforeAll(async () => {
  system = await startAbuseSystem({ WS_HEARTBEAT_SECONDS: '2' });
});
afterEach(() => system.unharmed());
afterAll(() => system?.stop());

/** Answers every ping of the server, as a browser does. */
function answerPings(peer: RawWebSocket): void {
  let looked = 0;
  peer.socket.on('data', () => {
    for (const { opcode, payload } of peer.frames.slice(looked))
      if (opcode === 9) peer.write(frameOf(payload, { opcode: 10 }));
    looked = peer.frames.length;
  });
}

const offsetsOf = (peer: RawWebSocket): number[] =>
  peer.messages().flatMap(({ type, offset }) => (type === 'alert' ? [Number(offset)] : []));

describe('peers that do not read', () => {
  test('are closed with 4008 at their bound, memory stays, and each resumes without loss', {
    timeout: 90_000,
  }, async () => {
    const peers = await Promise.all(Array.from({ length: 15 }, () => system.attack()));
    await Promise.all(peers.map((each) => each.until(() => each.messages().length > 0)));
    const [peer] = peers;
    const welcome = peer?.messages()[0];
    if (peer === undefined || welcome === undefined) throw new Error('no peer');
    const [epoch, offset] = [String(welcome['epoch']), Number(welcome['offset'])];
    for (const { socket } of peers) socket.pause();
    await system.alert();
    const before = system.memory();
    const head = await system.flood(6000, 4000);
    await system.witnessed(head);
    expect(system.memory() - before).toBeLessThan(200);
    // Half of them read on at once and are told; the others never do, and are cut.
    const deaf = peers.splice(8);
    for (const { socket } of peers) socket.resume();
    for (const each of peers) expect(await each.closeCode()).toBe(4008);
    for (const { socket } of peers) socket.end();
    await expect.poll(system.connections, { timeout: 30_000, interval: 100 }).toBe(1);
    const seen = offsetsOf(peer);
    // The close is announced after whole frames, in order, from the first on.
    expect(seen).toEqual(Array.from({ length: seen.length }, (_, i) => offset + 1 + i));
    while ((seen.at(-1) ?? offset) < head) {
      const back = await system.attack({ target: `/ws/alerts?epoch=${epoch}&offset=${seen.at(-1) ?? offset}` });
      answerPings(back);
      await back.until(
        () => back.messages().at(-1)?.['offset'] === head || back.frames.some(({ opcode }) => opcode === 8),
        30_000,
      );
      expect(back.messages()[0]).toMatchObject({ type: 'welcome', recovered: true });
      seen.push(...offsetsOf(back));
      back.socket.destroy();
    }
    expect(seen).toEqual(Array.from({ length: head - offset }, (_, i) => offset + 1 + i));
    for (const each of [...peers, ...deaf]) each.socket.destroy();
  });

  test('who trickle stay as long as they keep up, and hear everything', { timeout: 60_000 }, async () => {
    const peer = await system.attack();
    answerPings(peer);
    await peer.until(() => peer.messages().length > 0);
    const from = Number(peer.messages()[0]?.['offset']);
    const trickle = setInterval(() => {
      peer.socket.resume();
      setTimeout(() => peer.socket.pause(), 2);
    }, 20);
    const head = await system.flood(300, 2000);
    await peer.until(() => offsetsOf(peer).at(-1) === head, 40_000);
    clearInterval(trickle);
    expect(offsetsOf(peer)).toEqual(Array.from({ length: head - from }, (_, i) => from + 1 + i));
    peer.socket.destroy();
  });

  test('who ping without end get no more answers than they read, and cost no memory', { timeout: 60_000 }, async () => {
    const peers = await Promise.all(Array.from({ length: 5 }, () => system.attack()));
    const before = system.memory();
    const pings = Buffer.concat(Array.from({ length: 500 }, () => frameOf('x'.repeat(125), { opcode: 9 })));
    for (const peer of peers) peer.socket.pause();
    const begun = performance.now();
    while (performance.now() - begun < 3000) {
      for (const peer of peers) if (peer.socket.writableLength < 1_000_000) peer.write(pings);
      await pause(5);
    }
    await system.alert();
    expect(await answers(system.base)).toBe(200);
    expect(system.memory() - before).toBeLessThan(150);
    for (const peer of peers) peer.socket.destroy();
  });
});

describe('peers that talk too much', () => {
  test('with receipts without end are warned and closed with 4029', async () => {
    const peer = await system.attack();
    const receipt = frameOf('{"type":"received","offset":0}');
    peer.write(Buffer.concat(Array.from({ length: 10_000 }, () => receipt)));
    expect(await peer.closeCode()).toBe(4029);
    expect(peer.messages().filter(({ type }) => type === 'error')).toEqual([
      { type: 'error', code: 'rate-limited', detail: expect.any(String) },
    ]);
    peer.socket.destroy();
  });

  test('with receipts of what was never sent, or tokens that are none, are closed with 1008', async () => {
    for (const text of [
      '{"type":"received","offset":9007199254740991}',
      `{"type":"authenticate","token":"${'x'.repeat(9000)}"}`,
    ]) {
      const peer = await system.attack();
      peer.write(Buffer.concat(Array.from({ length: 20 }, () => frameOf(text))));
      expect(await peer.closeCode()).toBe(1008);
      peer.socket.destroy();
    }
  });

  test('with JSON as deep or as wide as a message may be are answered an error like others', async () => {
    for (const text of [
      '['.repeat(10_000),
      `{"type":"ping",${'"a":1,'.repeat(1500)}"b":1}`,
      '{"__proto__":{"type":"ping"}}',
      '1e999',
      '"\\ud800"',
    ]) {
      const peer = await system.attack();
      peer.write(frameOf(text));
      await peer.until(() => peer.messages().some(({ type }) => type === 'error'));
      expect(JSON.stringify(peer.messages().at(-1))).not.toContain('\\u');
      peer.socket.destroy();
    }
  });
});

test('two thousand viewers, each with a zone of its own, cost others nothing', { timeout: 90_000 }, async () => {
  const before = system.memory();
  const peers: RawWebSocket[] = [];
  for (let from = 0; from < 2000; from += 50) {
    const group = Array.from({ length: 50 }, (_, i) => openZone(from + i));
    peers.push(...(await Promise.all(group)));
  }
  expect(peers.filter(({ status }) => status !== 101)).toEqual([]);
  expect(await system.connections()).toBe(2001);
  for (let i = 0; i < 20; i += 1) await system.alert();
  await pause(1500);
  // No alert was of their zones; the watermark says so to each of them.
  expect(peers.filter((peer) => offsetsOf(peer).length > 0)).toEqual([]);
  for (const peer of peers) await peer.until(() => peer.messages().some(({ type }) => type === 'watermark'));
  expect(system.memory() - before).toBeLessThan(200);
  for (const { socket } of peers) socket.destroy();
});

function openZone(number: number): Promise<RawWebSocket> {
  const headers = { 'X-Forwarded-For': `198.18.${number >>> 4}.1` };
  return system.attack({ target: `/ws/alerts?zone=z${number}`, headers }).then((peer) => {
    answerPings(peer);
    return peer;
  });
}

test('a peer that upgrades and never says anything is cut when it answers no ping', { timeout: 60_000 }, async () => {
  const peer = await openRawWebSocket(system.base, {
    headers: { Authorization: `Bearer ${system.token}`, 'X-Forwarded-For': '203.0.113.9' },
  });
  await peer.ended;
  expect(peer.frames.some(({ opcode }) => opcode === 9)).toBe(true);
});
