import { describe, expect, it } from 'vitest';
import { MOST_SERIES, createMetrics } from './metrics.ts';

describe('metrics', () => {
  it('have the names of the contract', async () => {
    const metrics = createMetrics('0.0.0');
    const text = await metrics.text();
    metrics.close();
    for (const name of [
      'tocsin_accepted_total',
      'tocsin_rejected_total',
      'tocsin_alerts_total',
      'tocsin_websocket_connections',
      'tocsin_websocket_closed_total',
      'tocsin_websocket_connection_duration_seconds',
      'tocsin_websocket_messages_total',
      'tocsin_handshake_seconds',
      'tocsin_scoring_seconds',
      'tocsin_redis_seconds',
      'tocsin_refresh_total',
      'tocsin_fanout_seconds',
      'tocsin_bus_lag_seconds',
      'tocsin_log_backlog',
    ]) {
      expect(text).toContain(`# TYPE ${name} `);
    }
    expect(metrics.contentType).toMatch(/^text\/plain/);
  });

  it('are listed for the documents as they are, and no label is an id', async () => {
    const metrics = createMetrics('0');
    const text = await metrics.text();
    metrics.close();
    for (const { name, kind } of metrics.rows) expect(text).toContain(`# TYPE ${name} ${kind}\n`);
    const own = text.match(/^# TYPE tocsin_\w+/gm)?.filter((line) => !line.includes('build_info'));
    expect(metrics.rows).toHaveLength(own?.length ?? 0);
    const labels = new Set(metrics.rows.flatMap((row) => row.labels));
    const closed = [
      'by',
      'code',
      'command',
      'destination',
      'direction',
      'kind',
      'listener',
      'method',
      'partition',
      'path',
      'plan',
      'profile',
      'reason',
    ];
    expect([...labels].sort()).toEqual([...closed, 'result', 'route', 'severity', 'status', 'transport']);
  });

  it('count by their labels', async () => {
    const metrics = createMetrics('0.0.0');
    metrics.accepted.add({ transport: 'http', profile: 'seismic' }, 2);
    metrics.rejected.add({ transport: 'http', reason: 'replay' });
    metrics.handshake.observe({ path: '/ws/alerts' }, 0.02);
    metrics.busLag.set({}, 1.5);
    let collected = 0;
    metrics.beforeText(() => {
      collected += 1;
    });
    const text = await metrics.text();
    metrics.close();
    expect(text).toContain('tocsin_accepted_total{transport="http",profile="seismic"} 2');
    expect(text).toContain('tocsin_rejected_total{transport="http",reason="replay"} 1');
    expect(text).toContain('tocsin_handshake_seconds_count{path="/ws/alerts"} 1');
    expect(text).toContain('tocsin_bus_lag_seconds 1.5');
    expect(text).toMatch(/process_resident_memory_bytes [1-9]/);
    expect(collected).toBe(1);
  });

  it('belong to their app alone', async () => {
    const [one, other] = [createMetrics('1'), createMetrics('2')];
    one.alerts.add({ kind: 'host.cpu', severity: 'minor' });
    expect(await other.text()).not.toContain('host.cpu');
    one.close();
    other.close();
  });

  it('do not grow with what a peer sends', async () => {
    const metrics = createMetrics('0');
    for (let n = 0; n < MOST_SERIES + 100; n += 1) metrics.rejected.add({ transport: 'http', reason: `r${n}` });
    const text = await metrics.text();
    metrics.close();
    expect(text.match(/^tocsin_rejected_total\{/gm)).toHaveLength(MOST_SERIES + 1);
    expect(text).toContain('tocsin_rejected_total{transport="other",reason="other"} 100');
  });
});
