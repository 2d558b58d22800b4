import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { startPostReceiver, type PostReceiver } from '@tocsin/testkit/post-receiver';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ANSWER_BYTES, exchange } from './exchange.ts';
import { isPublicAddress } from './webhook/addresses.ts';
import { createWebhook, webhookName } from './webhook/webhook.ts';
import { alertOf, noticeFor } from './notices.suite.ts';

describe('a POST', () => {
  let receiver: PostReceiver;
  const signal = new AbortController().signal;
  beforeAll(async () => {
    receiver = await startPostReceiver();
  });
  afterAll(() => receiver.stop());
  const post = (more: Partial<Parameters<typeof exchange>[0]> = {}): ReturnType<typeof exchange> =>
    exchange({ url: new URL(receiver.url), headers: { 'x-a': 'b' }, body: 'größer', timeoutMs: 5000, signal, ...more });

  it('brings headers and body, and the answer back', async () => {
    receiver.script({ status: 429, headers: { 'retry-after': '3' }, body: 'slow' });
    expect(await post()).toEqual({ status: 429, retryAfter: '3', text: 'slow' });
    expect(receiver.posts.at(-1)).toMatchObject({ body: 'größer', headers: { 'x-a': 'b', 'content-length': '8' } });
  });

  it('follows no redirect', async () => {
    const before = receiver.posts.length;
    receiver.script({ status: 307, headers: { location: receiver.url } });
    expect(await post()).toMatchObject({ status: 307 });
    expect(receiver.posts).toHaveLength(before + 1);
  });

  it('reads a bounded part of the answer', async () => {
    receiver.script({ status: 200, body: 'x'.repeat(1_000_000) });
    expect((await post()).text).toHaveLength(ANSWER_BYTES);
  });

  it('ends at its time, or when it is told to', async () => {
    receiver.always('hang');
    await expect(post({ timeoutMs: 50 })).rejects.toMatchObject({ code: 'timeout' });
    const before = receiver.posts.length;
    const abort = new AbortController();
    const hanging = post({ signal: abort.signal });
    await receiver.until(() => receiver.posts.length > before);
    abort.abort();
    await expect(hanging).rejects.toMatchObject({ code: 'aborted' });
    await expect(post({ signal: abort.signal })).rejects.toMatchObject({ code: 'aborted' });
    receiver.always({ status: 200 });
  });

  it('takes the status of an answer whose body never ends', async () => {
    const server = createServer((_request, response) => {
      response.writeHead(200);
      response.write('o');
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as AddressInfo;
    expect(await post({ url: new URL(`http://127.0.0.1:${port}/`), timeoutMs: 200 })).toMatchObject({ status: 200 });
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  });

  it('makes no connection to an address that is not admitted, whether it is named or found', async () => {
    const before = receiver.posts.length;
    const { port } = new URL(receiver.url);
    const hosts = ['127.0.0.1', 'localhost', '[::1]', '[::ffff:127.0.0.1]', '0x7f.1', '2130706433', '0.0.0.0'];
    for (const host of hosts) {
      const refused = post({ url: new URL(`http://${host}:${port}/`), admit: isPublicAddress });
      await expect(refused, host).rejects.toMatchObject({ code: 'address-refused' });
    }
    expect(receiver.posts).toHaveLength(before);
    const asked: string[] = [];
    const admit = (address: string): boolean => asked.push(address) > 0;
    await post({ url: new URL(`http://localhost:${port}/`), admit });
    expect(asked).toContain('127.0.0.1');
  });
});

describe('a webhook', () => {
  const signal = new AbortController().signal;
  const clock = { now: () => 1_795_893_000_000, monotonic: () => 0 };
  const options = { secrets: [Buffer.alloc(32, 1)], source: 'https://tocsin.example.org', clock, version: '0' };

  it('refuses private addresses for good, and puts off what may pass', async () => {
    const receiver = await startPostReceiver();
    const closed = createWebhook({ ...options, url: receiver.url, allowPrivate: false });
    expect(await closed.post([noticeFor(alertOf())], signal)).toEqual({ kind: 'refused', reason: 'address-refused' });
    const open = createWebhook({ ...options, url: receiver.url, allowPrivate: true });
    const answers = [
      { status: 200 },
      { status: 302 },
      { status: 410 },
      { status: 503, headers: { 'retry-after': '9' } },
    ];
    receiver.script(...answers);
    const outcomes = [];
    for (const _ of answers) outcomes.push(await open.post([noticeFor(alertOf())], signal));
    expect(outcomes).toEqual([
      { kind: 'sent' },
      { kind: 'refused', reason: 'http-302' },
      { kind: 'refused', reason: 'http-410' },
      { kind: 'later', reason: 'http-503', retryAfterMs: 9000 },
    ]);
    expect(receiver.posts[0]?.headers).toMatchObject({
      'content-type': 'application/cloudevents+json; charset=utf-8',
      'webhook-id': `${alertOf().id}.1`,
      'webhook-timestamp': '1795893000',
    });
    await receiver.stop();
    expect(await open.post([noticeFor(alertOf())], signal)).toEqual({ kind: 'later', reason: 'ECONNREFUSED' });
  });

  it('has a name that shows nothing of its URL', () => {
    expect(webhookName('https://x.example/hook?token=secret')).toMatch(/^webhook:[0-9a-f]{16}$/);
  });
});
