import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { createKey } from '../key.ts';
import { FLEET_DEFAULTS, type FleetOptions } from './fleet.ts';
import { partsOf } from './fleet-processes.ts';
import { type FleetReport, mergeReports } from './fleet-report.ts';
import { histogramOf } from './histogram.ts';
import { runFleet } from './run-fleet.ts';

const servers: Server[] = [];
afterEach(() => {
  for (const server of servers.splice(0)) {
    server.closeAllConnections();
    server.close();
  }
});

/** A server that answers as `answer` says; resolves with its origin. */
function listen(answer: (body: string, reply: (status: number, body: string) => void) => void): Promise<string> {
  const server = createServer((request, response) => {
    let body = '';
    request.on('data', (piece: Buffer) => (body += piece.toString()));
    request.on('end', () => answer(body, (status, text) => response.writeHead(status).end(text)));
  });
  servers.push(server);
  return new Promise((resolve) => {
    server.listen(0, '127.0.0.1', () => resolve(`http://127.0.0.1:${(server.address() as AddressInfo).port}`));
  });
}

const KEY = String(createKey().export({ type: 'pkcs8', format: 'pem' }));

function options(origin: string, changes: Partial<FleetOptions> = {}): FleetOptions {
  const devices = Array.from({ length: 4 }, (_, i) => ({
    id: `d${i}`,
    profile: i === 3 ? ('host' as const) : ('seismic' as const),
    privateKeyPem: KEY,
    latitude: 17 + i / 100,
    longitude: -99,
  }));
  const few = { ratePerSecond: 200, arrival: 'regular', seconds: 0.5 } as const;
  return { ...FLEET_DEFAULTS, origin, apiKey: 'key', devices, run: 'r', seed: 's', ...few, ...changes };
}

const counted = (report: FleetReport): number => report.rows.reduce((sum, { count }) => sum + count, 0) + report.unsent;

describe('a fleet', () => {
  it('sends what the schedule says and reports every envelope once', async () => {
    const bodies: string[] = [];
    const origin = await listen((body, reply) => {
      bodies.push(body);
      reply(202, '{}');
    });
    const report = await runFleet(options(origin));
    expect(report).toMatchObject({ planned: 100, unsent: 0, accepted: 100, acceptedReadings: 100, ended: 'done' });
    expect(report.rows.map(({ kind, answer, expected, count }) => [kind, answer, expected, count])).toEqual(
      expect.arrayContaining([
        ['trigger', '202', true, 75],
        ['host', '202', true, 25],
      ]),
    );
    const payloads = bodies.map(
      (body) => JSON.parse(Buffer.from(body.split('.')[1] ?? '', 'base64url').toString()) as { id: string },
    );
    expect(new Set(payloads.map(({ id }) => id)).size).toBe(100);
  });

  it('keeps its pace while a server stalls, and counts the wait from the moment each was due', async () => {
    const held: (() => void)[] = [];
    let stalled = true;
    let arrived = 0;
    const origin = await listen((_body, reply) => {
      arrived += 1;
      if (stalled) held.push(() => reply(202, '{}'));
      else reply(202, '{}');
      // With all four connections held nothing more arrives here, but the schedule goes on.
    });
    let due = 0;
    const report = await runFleet(options(origin, { connections: 4 }), {
      onProgress: ({ outstanding }) => {
        due = Math.max(due, outstanding);
        if (stalled && outstanding >= 100) {
          stalled = false;
          expect(arrived).toBe(4);
          held.forEach((answer) => answer());
        }
      },
    });
    expect(due).toBe(100);
    expect(report).toMatchObject({ planned: 100, accepted: 100, unsent: 0 });
    // The one due first waited through the whole schedule of half a second, the one due last did not.
    const trigger = report.rows.find(({ kind }) => kind === 'trigger');
    const latency = histogramOf(trigger?.latency ?? { buckets: [], least: 0, greatest: 0 });
    expect(latency.greatest).toBeGreaterThan(490);
    expect(latency.greatest - latency.quantile(0.01)).toBeGreaterThan(300);
  });

  it('counts as unsent what is due beyond its bound', async () => {
    const origin = await listen(() => undefined);
    const report = await runFleet(options(origin, { mostOutstanding: 10, timeoutMs: 300 }));
    expect(report.planned).toBe(100);
    expect(report.unsent).toBeGreaterThan(0);
    expect(report.accepted).toBe(0);
    expect(counted(report)).toBe(100);
    expect(report.rows.every(({ answer, expected }) => answer === 'timeout' && !expected)).toBe(true);
    expect(report.uncertainReadings).toBe(100 - report.unsent);
  });

  it('ends when it is told to, and when nobody listens', async () => {
    const origin = await listen((_body, reply) => reply(202, '{}'));
    const stop = new AbortController();
    const stopped = await runFleet(options(origin, { seconds: null }), {
      signal: stop.signal,
      onProgress: () => stop.abort(),
    });
    expect(stopped.ended).toBe('stopped');
    expect(counted(stopped)).toBe(stopped.planned);
    servers.splice(0).forEach((server) => {
      server.closeAllConnections();
      server.close();
    });
    const nobody = await runFleet(options(origin, { seconds: null, ratePerSecond: 20 }));
    expect(nobody).toMatchObject({ ended: 'unreachable', accepted: 0 });
    expect(nobody.connectionError).toContain('ECONNREFUSED');
    expect(counted(nobody)).toBe(nobody.planned);
  });

  it('takes 429 and 503 for right, an honest refusal for wrong, and never replays what was not accepted', async () => {
    const answers = ['429 rate-limited', '503 overloaded', '422 schema'];
    let turn = 0;
    const origin = await listen((_body, reply) => {
      const [status = '', code = ''] = (answers[turn % answers.length] ?? '').split(' ');
      turn += 1;
      reply(Number(status), JSON.stringify({ code }));
    });
    const report = await runFleet(options(origin, { attacks: ['replay'], attackShare: 0.5 }));
    const rows = report.rows.filter(({ kind }) => kind === 'trigger').map(({ answer, expected }) => [answer, expected]);
    expect(rows).toEqual(
      expect.arrayContaining([
        ['429 rate-limited', true],
        ['503 overloaded', true],
        ['422 schema', false],
      ]),
    );
    expect(report.rows.some(({ kind }) => kind === 'replay')).toBe(false);
  });

  it('in parts has the same devices, rate and earthquakes, and reports that add up', async () => {
    const whole = options('http://127.0.0.1:1');
    const parts = partsOf(whole, 3);
    expect(parts.flatMap(({ devices }) => devices).length).toBe(4);
    expect(parts.reduce((sum, { ratePerSecond }) => sum + ratePerSecond, 0)).toBeCloseTo(200);
    expect(new Set(parts.map(({ run }) => run)).size).toBe(3);
    expect(partsOf(whole, 99)).toHaveLength(4);
    const origin = await listen((_body, reply) => reply(202, '{}'));
    const reports = [await runFleet(options(origin)), await runFleet(options(origin))];
    const merged = mergeReports(reports);
    expect(merged).toMatchObject({ planned: 200, accepted: 200, processes: 2, ended: 'done' });
    expect(counted(merged)).toBe(200);
  });
});
