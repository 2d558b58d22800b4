import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describeWith } from '@tocsin/testkit/needs';
import { afterEach, expect, it } from 'vitest';
import { openDevice } from './device.ts';
import { DeviceError } from './device-error.ts';
import { accepted, startScripted } from './scripted-server.suite.ts';

const ends: (() => unknown)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

describeWith(['root'], 'a full disk', () => {
  it('refuses reports by a code, keeps what is queued, and takes reports again once some is delivered', async (context) => {
    const mount = mkdtempSync(join(tmpdir(), 'tocsin-full-'));
    ends.push(() => rmSync(mount, { recursive: true, force: true }));
    const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tocsin-test', mount]);
    if (mounted.status !== 0) return context.skip('mounting is not allowed here');
    ends.push(() => execFileSync('umount', ['-l', mount]));
    const server = await startScripted();
    ends.push(() => server.stop());
    server.answer = () => ({ status: 503, body: '' });
    const tuning = { backOffFirstMs: 20, backOffMostMs: 50 };
    const options = {
      server: server.base,
      apiKey: 'tsk_12345678',
      id: 'm1',
      profile: 'seismic',
      folder: mount,
    } as const;
    let device = await openDevice({ ...options, ...tuning });
    ends.push(() => device.close());
    const queued: string[] = [];
    const text = 'x'.repeat(20_000);
    let refused: unknown;
    for (let value = 0; value < 200 && refused === undefined; value += 1) {
      await device.report([{ at: 1, value, text }]).then(
        (ids) => queued.push(...ids),
        (error: unknown) => (refused = error),
      );
    }
    expect(refused).toBeInstanceOf(DeviceError);
    expect(refused).toMatchObject({ code: 'disk-full' });
    expect(queued.length).toBeGreaterThan(30);
    // To the last block.
    spawnSync('dd', ['if=/dev/zero', `of=${join(mount, 'filler')}`, 'bs=512']);
    // Once more, and a new start on the full disk: nothing is lost, nothing of what was refused comes back.
    await expect(device.report([{ at: 1, value: -1, text }])).rejects.toMatchObject({ code: 'disk-full' });
    expect(device.status().queued).toBe(queued.length);
    await device.close();
    device = await openDevice({ ...options, ...tuning });
    expect(device.status().queued).toBe(queued.length);
    server.arrived.length = 0;
    server.answer = accepted;
    expect(await device.flush(20_000)).toBe(true);
    expect(new Set(server.arrived.map(({ id }) => id))).toEqual(new Set(queued));
    // Files go a moment after the last of their envelopes.
    let more: string | undefined;
    for (let turn = 0; turn < 200 && more === undefined; turn += 1) {
      [more] = await device.report([{ at: 1, value: 1000, text }]).catch(() => []);
      if (more === undefined) await new Promise((resolve) => setTimeout(resolve, 10));
    }
    expect(await device.flush(20_000)).toBe(true);
    expect(server.arrived.at(-1)?.id).toBe(more ?? 'none');
  });
});
