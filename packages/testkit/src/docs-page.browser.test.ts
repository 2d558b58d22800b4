import { chromium } from 'playwright-core';
import { expect, test } from 'vitest';
import { CHROMIUM_FLAGS } from './machine.ts';
import { describeWith } from './needs.ts';
import { startTestApp } from './test-app.ts';

describeWith(['chromium'], 'the description of the interface in a browser', () => {
  test('shows every group of routes, and no script of it is refused', async () => {
    const app = await startTestApp();
    const browser = await chromium.launch({
      executablePath: '/usr/bin/chromium',
      args: [...CHROMIUM_FLAGS],
    });
    try {
      const page = await browser.newPage();
      const complaints: string[] = [];
      page.on('console', (message) => message.type() === 'error' && complaints.push(message.text()));
      page.on('pageerror', (error) => complaints.push(error.message));
      // The bare address, as people type it.
      await page.goto(app.base);
      await page.waitForSelector('.opblock-tag');
      const groups = await page.$$eval('.opblock-tag', (tags) => tags.map((tag) => tag.getAttribute('data-tag')));
      expect(groups).toEqual(expect.arrayContaining(['ingest', 'alerts', 'devices', 'zones', 'original']));
      // swagger-ui sets a style inline; the page's policy refuses that, and nothing else may be refused.
      expect(complaints.filter((text) => !text.startsWith('Applying inline style'))).toEqual([]);
    } finally {
      await browser.close();
      await app.stop();
    }
  });
});
