/**
 * Load from a process of its own: posts prepared envelopes over keep-alive connections, one request at a time on each,
 * with as little work as possible, so that its share of the cores stays small and known.
 *
 * Talks with its parent: gets a {@link Load}, answers {@link LoadReport}. Signs before it starts.
 */
import { createPrivateKey, sign } from 'node:crypto';
import { connect, type Socket } from 'node:net';

/** What to send. `ratePerSecond` null: as fast as the answers come. */
export interface Load {
  readonly port: number;
  readonly apiKey: string;
  readonly devices: readonly { readonly id: string; readonly privateKeyPem: string }[];
  readonly envelopes: number;
  readonly readings: number;
  readonly connections: number;
  readonly seconds: number;
  readonly ratePerSecond: number | null;
  /** Tells runs apart in envelope ids. */
  readonly run: string;
}

/** What came back. `cpu` is the share of one core that the generator took. */
export interface LoadReport {
  readonly seconds: number;
  readonly answers: Readonly<Record<string, number>>;
  readonly cpu: number;
  readonly p50: number;
  readonly p99: number;
}

function prepare(load: Load): Buffer[] {
  const keys = load.devices.map(({ id, privateKeyPem }) => ({
    header: Buffer.from(JSON.stringify({ alg: 'ES256', kid: id })).toString('base64url'),
    key: createPrivateKey(privateKeyPem),
  }));
  return Array.from({ length: load.envelopes }, (_, i) => {
    const device = keys[i % keys.length];
    if (device === undefined) throw new Error('no devices');
    const at = Date.now();
    const readings = Array.from({ length: load.readings }, (_unused, j) => ({
      at: at - j * 10,
      value: (i * 31 + j) % 100,
    }));
    const payload = Buffer.from(JSON.stringify({ id: `${load.run}-${i}`, at, profile: 'seismic', readings })).toString(
      'base64url',
    );
    const text = `${device.header}.${payload}`;
    const signature = sign('sha256', Buffer.from(text), { key: device.key, dsaEncoding: 'ieee-p1363' }).toString(
      'base64url',
    );
    const body = `${text}.${signature}`;
    return Buffer.from(
      `POST /v1/readings HTTP/1.1\r\nHost: bench\r\nContent-Type: application/jose\r\nX-API-Key: ${load.apiKey}\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
    );
  });
}

interface Run {
  readonly requests: readonly Buffer[];
  next: number;
  readonly answers: Record<string, number>;
  readonly latencies: number[];
  readonly until: number;
  readonly began: number;
  readonly ratePerSecond: number | null;
}

/** The next request and when it is due (open loop: latency counts from then, sent late or not), or null at the end. */
function take(run: Run): { request: Buffer; due: number } | null {
  const request = run.requests[run.next];
  const due = run.ratePerSecond === null ? performance.now() : run.began + (run.next * 1000) / run.ratePerSecond;
  if (request === undefined || Math.max(due, performance.now()) > run.until) return null;
  run.next += 1;
  return { request, due };
}

function drive(socket: Socket, run: Run): Promise<void> {
  return new Promise((resolve, reject) => {
    let due = 0;
    let answer = '';
    const send = (): void => {
      const one = take(run);
      if (one === null) {
        socket.end();
        return resolve();
      }
      ({ due } = one);
      const wait = due - performance.now();
      if (wait > 1) setTimeout(() => socket.write(one.request), wait);
      else socket.write(one.request);
    };
    socket.setNoDelay(true);
    socket.setEncoding('latin1');
    socket.on('error', reject);
    socket.on('data', (chunk: string) => {
      answer = answer === '' ? chunk : answer + chunk;
      const end = answer.indexOf('\r\n\r\n');
      if (end < 0) return;
      const length = /content-length: (\d+)/i.exec(answer)?.[1];
      if (length === undefined || answer.length < end + 4 + Number(length)) return;
      const status = answer.slice(9, 12);
      run.answers[status] = (run.answers[status] ?? 0) + 1;
      run.latencies.push(performance.now() - due);
      answer = '';
      send();
    });
    socket.on('connect', send);
  });
}

async function runLoad(load: Load, requests: readonly Buffer[]): Promise<LoadReport> {
  const began = performance.now();
  const cpu = process.cpuUsage();
  const run: Run = {
    requests,
    next: 0,
    answers: {},
    latencies: [],
    until: began + load.seconds * 1000,
    began,
    ratePerSecond: load.ratePerSecond,
  };
  await Promise.all(Array.from({ length: load.connections }, () => drive(connect(load.port, '127.0.0.1'), run)));
  const seconds = (performance.now() - began) / 1000;
  const used = process.cpuUsage(cpu);
  const sorted = run.latencies.sort((a, b) => a - b);
  const at = (share: number): number => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0;
  return { seconds, answers: run.answers, cpu: (used.user + used.system) / 1e6 / seconds, p50: at(0.5), p99: at(0.99) };
}

if (process.send !== undefined) {
  let prepared: { load: Load; requests: Buffer[] } | null = null;
  process.on('message', (message: Load | 'go') => {
    if (message !== 'go') {
      prepared = { load: message, requests: prepare(message) };
      process.send?.('prepared');
    } else if (prepared !== null) {
      void runLoad(prepared.load, prepared.requests).then((report) => {
        process.send?.(report, () => process.exit(0));
      });
    }
  });
}
