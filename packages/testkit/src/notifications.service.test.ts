/** Notifications through the whole program: from a reading, or an operator's drill, to what Slack, a webhook and a mailbox get. */
import type { App } from '@tocsin/server/app/app';
import { createHmac, randomBytes } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { type ClusterNode, type ProcessCluster, startProcessCluster } from './cluster-processes.ts';
import { openTestDatabase, type TestDatabase } from './database.ts';
import { call, createDevice, post, postJson } from './device.ts';
import { createHosts, type HostWords } from './hosts.ts';
import { type MailServer, startMailServer } from './mail-server.ts';
import { describeWith } from './needs.ts';
import { type PostReceiver, type ReceivedPost, startPostReceiver } from './post-receiver.ts';
import { CREDENTIALS, signIn } from './server-process.ts';
import { startAppOn } from './test-app.ts';

const SECRETS = [randomBytes(32), randomBytes(24)];

async function metricsOf(base: string): Promise<string> {
  return (await fetch(`${base}/metrics`)).text();
}

describe('notifications of a server', () => {
  let database: TestDatabase;
  let app: App;
  let token: string;
  let slack: PostReceiver;
  let hook: PostReceiver;
  let mail: MailServer;
  beforeAll(async () => {
    [database, slack, hook, mail] = await Promise.all([
      openTestDatabase(),
      startPostReceiver(),
      startPostReceiver(),
      startMailServer(),
    ]);
    app = await startAppOn(database.url, {
      ALERT_COOLDOWN: '3600',
      PUBLIC_URL: 'https://tocsin.example.org',
      SLACK_WEBHOOK_URL: slack.url,
      WEBHOOK_URLS: hook.url,
      WEBHOOK_SECRETS: SECRETS.map((secret) => `whsec_${secret.toString('base64')}`).join(','),
      WEBHOOK_ALLOW_PRIVATE: 'true',
      SMTP_URL: `smtp://127.0.0.1:${mail.port}`,
      EMAIL_FROM: 'tocsin@example.org',
      EMAIL_TO: 'ops@example.org',
    });
    await app.ready;
    token = await signIn(app.address);
  });
  afterAll(async () => {
    await app?.stop();
    await Promise.all([slack?.stop(), hook?.stop(), mail?.stop()]);
    await database?.close();
  });
  const listed = async (query: string): Promise<Record<string, unknown>> => {
    const { body } = await call(`${app.address}/v1/alerts?${query}`, { headers: { authorization: `Bearer ${token}` } });
    const items = (body?.['items'] ?? []) as Record<string, unknown>[];
    return items[0] ?? {};
  };

  test('tell a busy host to Slack once, in the contract’s words, and to the webhook as it is on the channel', async () => {
    const device = createDevice('web-1');
    const registration = { id: 'web-1', profile: 'host', publicKey: device.publicKeyPem };
    expect((await postJson(`${app.address}/v1/devices`, registration, { token })).status).toBe(201);
    const send = async (id: string, cpu: number): Promise<void> => {
      const readings = [{ at: Date.now(), cpu_percent: cpu, mem_percent: 41.5, disk_percent: 12 }];
      const envelope = device.seal(id, { profile: 'host', readings });
      // A machine that is busy with other tests sheds hosts for a moment (503).
      const status = async (): Promise<number> => (await post(app.address, CREDENTIALS.apiKey, envelope)).status;
      await expect.poll(status, { timeout: 20_000, interval: 200 }).toBe(202);
    };
    await send('e1', 95);
    await slack.until(() => slack.posts.length > 0);
    await send('e2', 99);
    await hook.until(() => hook.posts.length > 0);
    expect(slack.posts.map(({ body }) => JSON.parse(body) as unknown)).toEqual([
      {
        text: ':rotating_light: CPU ALERT at web-1 \u2014 CPU 95.0%, RAM 41.5%',
        ...{ link_names: false, unfurl_links: false, unfurl_media: false },
      },
    ]);
    const { headers, body } = hook.posts[0] as ReceivedPost;
    const alert = await listed('kind=host.cpu');
    expect(JSON.parse(body)).toEqual({
      ...{ specversion: '1.0', id: `${String(alert['id'])}.1`, source: 'https://tocsin.example.org' },
      ...{ type: 'tocsin.alert.raised', subject: alert['id'], datacontenttype: 'application/json' },
      time: new Date(alert['updatedAt'] as number).toISOString(),
      data: alert,
    });
    const signed = `${String(headers['webhook-id'])}.${String(headers['webhook-timestamp'])}.${body}`;
    const expected = SECRETS.map((secret) => `v1,${createHmac('sha256', secret).update(signed).digest('base64')}`);
    expect(headers['webhook-signature']).toBe(expected.join(' '));
  });

  test('tell a drill as an exercise, and its end to those who were told of it', async () => {
    const [slackBefore, hookBefore] = [slack.posts.length, hook.posts.length];
    const drill = { severity: 'severe', headline: 'Evacuate <!channel>' };
    const { body } = await postJson(`${app.address}/v1/alerts`, drill, { token });
    const id = String(body?.['id']);
    await expect.poll(() => mail.mails.length, { timeout: 10_000 }).toBe(1);
    expect((await postJson(`${app.address}/v1/alerts/${id}/acknowledge`, {}, { token })).status).toBe(200);
    expect((await postJson(`${app.address}/v1/alerts/${id}/resolve`, {}, { token })).status).toBe(200);
    await slack.until(() => slack.posts.length === slackBefore + 2);
    await hook.until(() => hook.posts.length === hookBefore + 2);
    await expect.poll(() => mail.mails.length, { timeout: 10_000 }).toBe(2);
    const texts = slack.posts.slice(slackBefore).map((each) => (JSON.parse(each.body) as { text: string }).text);
    expect(texts[0]).toMatch(/^EXERCISE: :rotating_light: \*SEVERE\* Evacuate &lt;!channel&gt; — /);
    expect(texts[0]).toContain(`<https://tocsin.example.org/v1/alerts/${id}|${id}>`);
    expect(texts[1]).toMatch(/^EXERCISE: :white_check_mark: \*RESOLVED\* Evacuate/);
    const types = hook.posts.slice(hookBefore).map((each) => (JSON.parse(each.body) as { type: string }).type);
    expect(types).toEqual(['tocsin.alert.raised', 'tocsin.alert.resolved']);
    expect(mail.mails[0]?.text).toContain('Subject: [EXERCISE] [SEVERE] Evacuate <!channel>');
    expect(mail.mails[1]?.text).toContain(`References: <${id}.1@tocsin.example.org>`);
    const metrics = await metricsOf(app.address);
    expect(metrics).toMatch(/^tocsin_notifications_total\{destination="slack",result="sent"\} 3$/m);
    expect(metrics).toMatch(/^tocsin_notifications_total\{destination="email",result="sent"\} 2$/m);
    expect(metrics).toMatch(/^tocsin_notifications_delayed\{destination="webhook"\} 0$/m);
  });
});

describe('summaries of a server', () => {
  test('go to Slack every interval while a host is active, in the contract’s words', async () => {
    const [database, slack] = await Promise.all([openTestDatabase(), startPostReceiver()]);
    const app = await startAppOn(database.url, {
      ...{ SLACK_WEBHOOK_URL: slack.url, SUMMARY_INTERVAL: '0.2', PRUNE_SECONDS: '3' },
    });
    try {
      await app.ready;
      const hosts = createHosts(() => app.address, CREDENTIALS.apiKey, await signIn(app.address));
      const send = (id: string, words: Omit<HostWords, 'at'>): Promise<void> =>
        vi.waitFor(() => hosts.send(id, { at: Date.now(), ...words }), { timeout: 20_000, interval: 100 });
      await Promise.all([send('web-2', { cpu_percent: 7.25, gpu_percent: 33 }), send('db-1', { cpu_percent: 12 })]);
      const texts = (): string[] => slack.posts.map(({ body }) => (JSON.parse(body) as { text: string }).text);
      const whole = [
        '```\nMetrics summary (last interval):\n',
        'db-1            | CPU 12% | RAM 41.5% | Disk 12% | GPU n/a',
        'web-2           | CPU 7.25% | RAM 41.5% | Disk 12% | GPU 33%\n```',
      ].join('\n');
      await slack.until(() => texts().includes(whole));
      // Both leave the board; what is posted stops by itself.
      await expect
        .poll(async () => /^tocsin_live_devices 0$/m.test(await metricsOf(app.address)), { timeout: 10_000 })
        .toBe(true);
      expect(new Set(texts()).size).toBeLessThanOrEqual(3);
    } finally {
      await app.stop();
      await slack.stop();
      await database.close();
    }
  });
});

describeWith(['redis', 'postgres15-postgis'], 'notifications of two workers', () => {
  let cluster: ProcessCluster;
  let slack: PostReceiver;
  beforeAll(async () => {
    slack = await startPostReceiver();
    const environment = { SLACK_WEBHOOK_URL: `${slack.url}/a-secret-of-slack` };
    cluster = await startProcessCluster({ gateways: 1, workers: 2, redis: 'single', environment });
  });
  afterAll(async () => {
    await cluster?.stop();
    await slack?.stop();
  });

  const raised: string[] = [];
  const raise = async (count: number): Promise<void> => {
    const base = cluster.gateways()[0]?.base ?? '';
    for (let n = 0; n < count; n += 1) {
      const drill = { severity: 'severe', headline: `drill ${raised.length}` };
      const { body } = await postJson(`${base}/v1/alerts`, drill, { token: cluster.token });
      raised.push(`${String(body?.['id'])}.1`);
    }
  };
  const keys = (): string[] => slack.posts.map(({ headers }) => String(headers['idempotency-key']));
  const told = async ({ base }: ClusterNode): Promise<number> =>
    Number(
      /^tocsin_notifications_total\{destination="slack",result="sent"\} (\d+)$/m.exec(await metricsOf(base))?.[1] ?? 0,
    );

  test('are posted by one of them, and after its kill -9 between post and commit by the other: that one again, nothing twice beyond it', async () => {
    await raise(10);
    await slack.until(() => slack.posts.length >= 10);
    expect(keys()).toEqual(raised);
    const workers = cluster.workers();
    await expect.poll(async () => Math.max(...(await Promise.all(workers.map(told)))), { timeout: 10_000 }).toBe(10);
    const counts = await Promise.all(workers.map(told));
    const [holder, other] = counts[0] === 10 ? workers : [...workers].reverse();
    slack.script('hang');
    await raise(5);
    await slack.until(() => slack.posts.at(-1)?.status === null);
    await holder?.kill();
    await slack
      .until(() => slack.taken().length === 15)
      .catch((error: unknown) => {
        throw new Error(cluster.output(), { cause: error });
      });
    expect(keys()).toEqual([...raised.slice(0, 11), ...raised.slice(10)]);
    expect(slack.taken().map(({ headers }) => String(headers['idempotency-key']))).toEqual(raised);
    await raise(1);
    await slack.until(() => slack.taken().length === 16);
    expect(keys()).toHaveLength(17);
    if (other !== undefined) expect(await told(other)).toBe(6);
    expect(cluster.output()).not.toContain('a-secret-of-slack');
  }, 90_000);
});
