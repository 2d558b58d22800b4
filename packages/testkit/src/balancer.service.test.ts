import { createServer, type Server } from 'node:http';
import { afterEach, expect, test } from 'vitest';
import { startBalancer } from './balancer.ts';
import { call } from './device.ts';

const servers: Server[] = [];
const closers: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0)) await close();
  for (const server of servers.splice(0)) server.close();
});

/** An instance that names itself, and whose `ready` says what it is told to. */
async function instance(name: string): Promise<{ base: string; server: Server; status: number }> {
  const made = { base: '', server: createServer(), status: 200 };
  made.server.on('request', (request, response) => {
    const status = request.url === '/health/ready' ? made.status : 200;
    response.writeHead(status, { connection: 'close' }).end(JSON.stringify({ name }));
  });
  await new Promise<void>((resolve) => made.server.listen(0, '127.0.0.1', resolve));
  made.base = `http://127.0.0.1:${(made.server.address() as { port: number }).port}`;
  servers.push(made.server);
  return made;
}

test('connections go to the ready instances in turn, and past one that refuses', async () => {
  const [a, b, c] = await Promise.all([instance('a'), instance('b'), instance('c')]);
  c.status = 503;
  const balancer = await startBalancer([a.base, b.base, c.base]);
  closers.push(balancer.stop);
  const who = async (times: number): Promise<string[]> => {
    const names: string[] = [];
    for (let i = 0; i < times; i += 1) names.push(String((await call(balancer.base)).body?.['name']));
    return names.sort();
  };
  expect(await who(4)).toEqual(['a', 'a', 'b', 'b']);
  c.status = 200;
  await expect.poll(() => balancer.healthy().length).toBe(3);
  await new Promise((resolve) => a.server.close(resolve));
  expect((await who(4)).filter((name) => name === 'a')).toEqual([]);
  await expect.poll(() => balancer.healthy()).not.toContain(a.base);
});
