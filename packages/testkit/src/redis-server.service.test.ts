import { spawn } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import { afterAll, expect, test } from 'vitest';
import { describeWith } from './needs.ts';
import { startRedis, startRedisCluster, startRedisSentinel } from './redis-server.ts';

/** Node does not load the sources by itself. */
const BUILT = new URL('../dist/src/redis-server.js', import.meta.url).href;

const ends: (() => Promise<void>)[] = [];
afterAll(async () => {
  for (const end of ends) await end();
});

/** State letter of a process (man 5 proc); null when there is no such process. */
function state(pid: number): string | null {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'latin1');
    return text.slice(text.lastIndexOf(')') + 2)[0] ?? null;
  } catch {
    return null;
  }
}

describeWith(['redis'], 'Redis servers for tests', () => {
  test('a server keeps its port over a kill and a restart, and answers again when it is thawed', async () => {
    const redis = await startRedis({ args: ['--requirepass', 'a secret'] });
    ends.push(redis.stop);
    expect(redis.url).toBe(`redis://:a%20secret@127.0.0.1:${redis.port}`);
    expect(await redis.cli('set', 'a', '1')).toBe('OK');
    await redis.kill();
    await expect(redis.cli('ping')).rejects.toThrow();
    await redis.restart();
    expect(await redis.cli('get', 'a')).toBe('');
    redis.freeze();
    await expect.poll(() => state(redis.pid())).toBe('T');
    redis.thaw();
    expect(await redis.cli('ping')).toBe('PONG');
  });

  test('arguments win over the defaults: what is appended survives a kill', async () => {
    const redis = await startRedis({ args: ['--appendonly', 'yes', '--appendfsync', 'always'] });
    ends.push(redis.stop);
    await redis.cli('set', 'a', '1');
    await redis.restart();
    expect(await redis.cli('get', 'a')).toBe('1');
  });

  test('a cluster of three serves every slot', async () => {
    const cluster = await startRedisCluster();
    ends.push(cluster.stop);
    expect(await cluster.nodes[1]?.cli('-c', 'set', 'any', 'value')).toBe('OK');
    expect(await cluster.nodes[2]?.cli('-c', 'get', 'any')).toBe('value');
  });

  test('sentinels promote the replica of a killed master', async () => {
    const { master, replica, sentinels, name, stop } = await startRedisSentinel();
    ends.push(stop);
    await master.kill();
    const place = async (): Promise<string | undefined> =>
      (await sentinels[0]?.cli('sentinel', 'get-master-addr-by-name', name))?.split('\n')[1];
    await expect.poll(place, { timeout: 20_000 }).toBe(String(replica.port));
    expect(await replica.cli('set', 'a', '1')).toBe('OK');
  });

  test('a server and its folder go with the process that started it, even when both are killed and frozen', async () => {
    const script = `
      const { startRedis } = await import(${JSON.stringify(BUILT)});
      const redis = await startRedis();
      redis.freeze();
      const { readlinkSync } = await import('node:fs');
      console.log(redis.pid() + ' ' + readlinkSync('/proc/' + redis.pid() + '/cwd'));
      setInterval(() => undefined, 1000);
    `;
    const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const line = await new Promise<string>((resolve, reject) => {
      child.stdout.once('data', (data) => resolve(String(data)));
      child.once('exit', reject);
    });
    const [pid = '', folder = ''] = line.trim().split(' ');
    expect(state(Number(pid))).not.toBeNull();
    child.kill('SIGKILL');
    // A zombie of an init that never reaps is dead, too.
    await expect.poll(() => ['Z', null].includes(state(Number(pid))), { timeout: 10_000 }).toBe(true);
    while (existsSync(folder)) await pause(20);
  });
});
