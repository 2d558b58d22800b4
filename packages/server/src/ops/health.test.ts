import { describe, expect, it } from 'vitest';
import { createHealth } from './health.ts';

describe('ready', () => {
  it('says starting, then ok, then draining, and draining is the end', async () => {
    const health = createHealth();
    health.register({ name: 'store', required: true, timeoutMs: 1000, check: () => true });
    expect(await health.ready()).toEqual({ status: 'starting', checks: { store: 'ok' } });
    expect(health.enter('ready')).toBe(true);
    expect(await health.ready()).toEqual({ status: 'ok', checks: { store: 'ok' } });
    expect(health.enter('draining')).toBe(true);
    expect(health.enter('ready')).toBe(false);
    expect(await health.ready()).toEqual({ status: 'draining', checks: { store: 'ok' } });
  });

  it('is degraded when a check fails that work does not need, and not ready when it does', async () => {
    const health = createHealth();
    let store = true;
    health.register({ name: 'store', required: true, timeoutMs: 1000, check: () => store });
    health.register({ name: 'bus', required: false, timeoutMs: 1000, check: () => Promise.reject(new Error('away')) });
    health.enter('ready');
    expect(await health.ready()).toEqual({ status: 'degraded', checks: { store: 'ok', bus: 'failed' } });
    store = false;
    expect((await health.ready()).status).toBe('store-unavailable');
  });

  it('counts a check as failed that does not answer in time', async () => {
    const health = createHealth();
    health.register({ name: 'store', required: true, timeoutMs: 5, check: () => new Promise(() => undefined) });
    health.enter('ready');
    expect((await health.ready()).status).toBe('store-unavailable');
  });

  it('runs the checks once for callers that come together', async () => {
    const health = createHealth();
    let runs = 0;
    health.register({ name: 'store', required: true, timeoutMs: 1000, check: async () => (runs += 1) > 0 });
    await Promise.all(Array.from({ length: 100 }, () => health.ready()));
    expect(runs).toBe(1);
    await health.ready();
    expect(runs).toBe(2);
  });

  it('tells of a drain that began while checks ran', async () => {
    const health = createHealth();
    health.register({ name: 'store', required: true, timeoutMs: 1000, check: () => health.enter('draining') });
    health.enter('ready');
    expect((await health.ready()).status).toBe('draining');
  });
});
