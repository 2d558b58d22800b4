/** The whole way of a host: the agent, the broker of a server, dashboards, the store and Slack, each as users run it. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { type AgentProcess, startAgent } from './agent-process.ts';
import { openTestDatabase, type TestDatabase } from './database.ts';
import { folderRemoved, guardChild, guardedFolder } from './guard.ts';
import { type LiveWatch, watchLive } from './live-watch.ts';
import { startPostReceiver } from './post-receiver.ts';
import { CREDENTIALS, freePort, type ServerProcess, startServer } from './server-process.ts';
import { settled } from './settled.ts';

const ends: (() => unknown)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

const SECRET = 'token-of-dashboards-0123456789';
const ROWS = `
SELECT r.at FROM readings r JOIN devices d ON d.number = r.device WHERE d.id = 'web-1' ORDER BY r.at`;

/** The moments of all frames that the agent's outbox holds, settled or not, Unix ms in the order of writing. */
function written(folder: string): number[] {
  const files = existsSync(folder) ? readdirSync(folder).filter((name) => name.endsWith('.log')) : [];
  return files
    .toSorted()
    .flatMap((name) => [...readFileSync(join(folder, name), 'latin1').matchAll(/"at":(\d+)/g)])
    .map(([, at]) => Number(at));
}

const waitFor = (holds: () => unknown): Promise<unknown> =>
  vi.waitFor(async () => expect(await holds()).toBe(true), { timeout: 90_000, interval: 50 });

describe('an agent that reports to the broker of a server', () => {
  test('loses no frame and makes no second alert though the server is killed: dashboards, store and Slack have it all', async () => {
    const folder = guardedFolder('tocsin-story-');
    ends.push(async () => {
      await rm(folder, { recursive: true, force: true });
      folderRemoved(folder);
    });
    const [database, slack] = await Promise.all([openTestDatabase(), startPostReceiver()]);
    ends.push(() => Promise.all([database.close(), slack.stop()]));
    const [http, mqtt] = [await freePort(), await freePort()];
    const start = async (): Promise<ServerProcess> => {
      const server = startServer(folder, http, {
        ...{ DATABASE_URL: database.url, CLUSTER_SECRET: 'c'.repeat(48), MQTT_EMBEDDED_PORT: String(mqtt) },
        // Whatever this machine does is too much, and is told once.
        ...{ CPU_ALERT_TH: '0', ALERT_COOLDOWN: '86400', SLACK_WEBHOOK_URL: slack.url, SUMMARY_INTERVAL: '86400' },
        ...{ WS_AUTH_TOKEN: SECRET, WS_ALLOW_QUERY_TOKEN: 'true', PRUNE_SECONDS: '600' },
      });
      guardChild(server.child);
      ends.push(async () => {
        server.child.kill('SIGKILL');
        await server.exited;
      });
      await server.ready();
      return server;
    };
    const first = await start();
    const outbox = join(folder, 'agent');
    const agent = startAgent(
      [
        '--id',
        'web-1',
        '--folder',
        outbox,
        '--disk',
        folder,
        '--interval',
        '1',
        '--server',
        `mqtt://127.0.0.1:${mqtt}`,
      ],
      { TOCSIN_AGENT_PASSWORD: CREDENTIALS.apiKey },
    );
    ends.push(() => agent.signal('SIGKILL'));
    await agent.told('delivering');
    const dashboard = await watchLive([`ws://127.0.0.1:${http}/ws/devices?token=${SECRET}`], 'devices');
    ends.push(() => dashboard.close());
    await waitFor(() => dashboard.picture().has('web-1'));
    await waitFor(() => toldOf(database).then((told) => told === 1));
    first.child.kill('SIGKILL');
    await first.exited;
    const kept = written(outbox).length;
    await waitFor(() => written(outbox).length >= kept + 4);
    await start();
    // Of what was before, at once; then of what the agent had kept.
    await waitFor(() => dashboard.picture().has('web-1') && dashboard.connections() === 2);
    const stored = async (): Promise<number> => (await database.db.query(ROWS)).length;
    await waitFor(async () => written(outbox).length <= (await stored()));
    const { delivered, times } = await endOf(agent, outbox);
    await settled(database.db);
    const rows = await database.db.query<{ at: number }>(ROWS);
    expect(rows.map(({ at }) => Math.floor(at / 1000))).toEqual(times);
    expect(rows).toHaveLength(delivered);
    expect(delivered).toBeGreaterThanOrEqual(kept + 4);
    await waitFor(() => shown(dashboard) === times.at(-1));
    expect(slack.posts.map(({ body }) => (JSON.parse(body) as { text: string }).text)).toEqual([
      expect.stringMatching(/^:rotating_light: CPU ALERT at web-1 — CPU [0-9.]+%, RAM [0-9.]+%$/),
    ]);
    expect(dashboard.faults()).toEqual([]);
  }, 180_000);
});

function shown(dashboard: LiveWatch): unknown {
  return dashboard.picture().get('web-1')?.['timestamp'];
}

/** How many alerts Slack was told of and it was written down. */
async function toldOf({ db }: TestDatabase): Promise<number> {
  const [row] = await db.query<{ told: number }>('SELECT told FROM notification_destinations');
  return row?.told ?? 0;
}

/** Lets the agent deliver what it kept and end; answers how much that was, and of which seconds. */
async function endOf(agent: AgentProcess, outbox: string): Promise<{ delivered: number; times: number[] }> {
  const before = written(outbox).length;
  await waitFor(() => written(outbox).length > before);
  agent.signal('SIGTERM');
  const times = written(outbox).map((at) => Math.floor(at / 1000));
  expect(await agent.exited).toBe(0);
  const last = agent.news().at(-1);
  expect(last).toMatchObject({ news: 'stopped', queued: 0, dropped: 0 });
  return { delivered: Number(last?.['delivered']), times };
}
