/**
 * A server process that is abused, a witness, and what must hold afterwards: the witness has had every alert once and in
 * order, no connection is left but its own, and every place of the attacker's address is free.
 */
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { expect } from 'vitest';
import { newPerson } from './contract-viewer.ts';
import { openTestDatabase, type TestDatabase } from './database.ts';
import { call, postJson } from './device.ts';
import { folderRemoved, guardChild, guardedFolder } from './guard.ts';
import { openRawWebSocket, type RawOptions, type RawWebSocket } from './raw-websocket.ts';
import { freePort, type ServerProcess, signIn, startServer } from './server-process.ts';
import { connectViewer, type ScriptedViewer } from './viewer.ts';

/** Places of one address. */
export const PLACES = 20;
/** The attackers' address. */
export const ATTACKER = '203.0.113.66';

const FLOOD = `
WITH head AS (UPDATE channels SET head = head + $1 WHERE channel = 'alerts' RETURNING head),
     told AS (INSERT INTO channel_messages (channel, "offset", type, zone_id, severity, created_at, body)
              SELECT 'alerts', head - $1 + n, 'alert', NULL, 1, $3, '{"flood":"' || repeat('x', $2::int) || '"}'
              FROM head, generate_series(1, $1::bigint) AS n)
SELECT head::text FROM head`;

/** The system. */
export interface AbuseSystem {
  readonly base: string;
  readonly server: ServerProcess;
  readonly database: TestDatabase;
  /** A viewer's token. */
  readonly token: string;
  /** Opens a WebSocket from the attackers' address with a good token; `more` overrides. */
  attack(more?: RawOptions): Promise<RawWebSocket>;
  /** An alert; answers its offset. */
  alert(headline?: string): Promise<number>;
  /** So many messages of so many bytes at once, as another process would commit them; answers the head. */
  flood(count: number, bytes: number): Promise<number>;
  /** Waits until the witness has everything up to this offset. */
  witnessed(offset: number): Promise<void>;
  /** Resident memory of the server, MiB. */
  memory(): number;
  /** Connections as the gauge tells them. */
  connections(): Promise<number>;
  /** Expects what the head of this file says. */
  unharmed(): Promise<void>;
  stop(): Promise<void>;
}

/** Starts it; `environment` adds settings. */
export async function startAbuseSystem(environment: Readonly<Record<string, string>> = {}): Promise<AbuseSystem> {
  const folder = guardedFolder('tocsin-abuse-');
  const database = await openTestDatabase();
  const server = startServer(folder, await freePort(), {
    DATABASE_URL: database.url,
    CLUSTER_SECRET: randomBytes(32).toString('base64url'),
    TRUSTED_PROXIES: '127.0.0.1',
    WS_MAX_CONNECTIONS_PER_IP: String(PLACES),
    WS_MAX_CONNECTIONS_PER_USER: '100000',
    WS_RECONNECTS_PER_MINUTE: '1000000',
    WS_WATERMARK_SECONDS: '1',
    LOG_LEVEL: 'info',
    ...environment,
  });
  guardChild(server.child);
  await server.ready();
  const { base } = server;
  const admin = await signIn(base);
  const { token } = await newPerson(base, admin);
  const witness = await connectViewer(`${base.replace('http', 'ws')}/ws/alerts`, { token });
  const made: number[] = [];
  let serial = 0;
  const from = witness.offset();

  const alert = async (headline = `abuse ${(serial += 1)}`): Promise<number> => {
    const answer = await postJson(`${base}/v1/alerts`, { severity: 'minor', headline }, { token: admin });
    expect(answer.status).toBe(201);
    const offset = Number(answer.body?.['offset']);
    made.push(offset);
    return offset;
  };
  const flood = async (count: number, bytes: number): Promise<number> => {
    const [row] = await database.db.query<{ head: string }>(FLOOD, [count, bytes, Date.now()]);
    return Number(row?.head);
  };
  const attack = (more: RawOptions = {}): Promise<RawWebSocket> => {
    const headers = { Authorization: `Bearer ${token}`, 'X-Forwarded-For': ATTACKER, ...more.headers };
    return openRawWebSocket(base, { ...more, headers });
  };
  const connections = async (): Promise<number> => {
    const { text } = await fetchText(`${base}/metrics`);
    return Number(/^tocsin_websocket_connections\{path="\/ws\/alerts"\} (\d+)$/m.exec(text)?.[1]);
  };
  return {
    base,
    server,
    database,
    token,
    attack,
    alert,
    flood,
    witnessed: (offset) => expectWitness(witness, from, offset),
    connections,
    memory: () =>
      Number(/VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${server.child.pid}/status`, 'utf8'))?.[1]) / 1024,
    async unharmed() {
      await expectWitness(witness, from, await alert());
      await expect.poll(connections, { timeout: 15_000, interval: 50 }).toBe(1);
      const again = await Promise.all(Array.from({ length: PLACES }, () => attack()));
      expect(again.map(({ status }) => status)).toEqual(again.map(() => 101));
      for (const { socket } of again) socket.destroy();
      await expect.poll(connections, { timeout: 15_000, interval: 50 }).toBe(1);
      expect(server.child.exitCode).toBeNull();
    },
    async stop() {
      witness.cut();
      server.child.kill('SIGTERM');
      expect(await server.exited, server.output()).toBe(0);
      // Whatever was tried with it: a credential never reaches the log.
      expect(server.output()).not.toContain(token);
      expect(server.output()).not.toContain(token.slice(-40));
      await database.close();
      await rm(folder, { recursive: true, force: true });
      folderRemoved(folder);
    },
  };
}

/** The witness has everything up to `offset`, once, in order, on its first connection. */
async function expectWitness(witness: ScriptedViewer, from: number, offset: number): Promise<void> {
  await witness.until((message) => message.type === 'alert' && message.offset === offset);
  const offsets = witness.channel().map((message) => message.offset);
  expect(offsets).toEqual(Array.from({ length: offset - from }, (_, i) => from + 1 + i));
  expect(witness.faults).toEqual([]);
}

async function fetchText(url: string): Promise<{ text: string }> {
  const response = await fetch(url);
  return { text: await response.text() };
}

/** What `GET /health/live` says, quickly: the process is there and its event loop turns. */
export async function answers(base: string): Promise<number> {
  return (await call(`${base}/health/live`, { timeoutMs: 5000 })).status;
}
