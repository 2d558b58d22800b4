import { expect, test } from 'vitest';
import { bundleClient, CLIENT_BYTES_MOST } from './client-bundle.ts';

test('the viewer SDK for browsers is one module of less than 10 KB, with nothing of Node and nothing foreign in it', async () => {
  const { code, gzipBytes } = await bundleClient();
  expect(gzipBytes).toBeLessThanOrEqual(CLIENT_BYTES_MOST);
  expect(code).not.toMatch(/\bfrom\s*["']|\bimport\s*[("']|\brequire\(|node:|\bprocess\./);
  expect(code).toMatch(/as connectAlerts/);
});
