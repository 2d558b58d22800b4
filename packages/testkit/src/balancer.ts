/**
 * A load balancer for tests, of the testkit's proxy: TCP, in turn over the instances whose `ready` says 200, as nginx or
 * a cloud's balancer would. It holds nothing together: a connection ends when its instance ends it.
 *
 * `ready` is asked every 100 ms; an instance that refuses a connection is passed over for the next one at once.
 */
import { call } from './device.ts';
import { type Proxy, type ProxyTarget, startProxy } from './proxy.ts';

/** A running balancer. */
export interface Balancer {
  readonly port: number;
  readonly base: string;
  /** Bases of the instances that get connections now. */
  healthy(): string[];
  /** Where the newest connection went. */
  newest(): string;
  /** The proxy under it: cuts and slow links between viewers and balancer. */
  readonly proxy: Proxy;
  stop(): Promise<void>;
}

const ASK_MS = 100;
const ANSWER_MS = 1000;

/** Starts it; resolves once one instance is healthy. */
export async function startBalancer(bases: readonly string[]): Promise<Balancer> {
  const ready = new Set<string>();
  let over = false;
  let turn = 0;
  let newest = '';

  async function watch(base: string, once: boolean): Promise<void> {
    do {
      const answer = await call(`${base}/health/ready`, { timeoutMs: ANSWER_MS }).catch(() => null);
      if (answer?.status === 200) ready.add(base);
      else ready.delete(base);
      if (!once) await new Promise((resolve) => setTimeout(resolve, ASK_MS));
    } while (!once && !over);
  }

  /** The next healthy one; with none, the next of all. */
  function choose(): ProxyTarget {
    const healthy = bases.filter((base) => ready.has(base));
    const among = healthy.length > 0 ? healthy : bases;
    turn += 1;
    newest = among[turn % among.length] ?? '';
    const { hostname: host, port } = new URL(newest);
    return { host, port: Number(port) };
  }

  while (ready.size === 0) await Promise.all(bases.map((base) => watch(base, true)));
  const watching = bases.map((base) => watch(base, false));
  const proxy = await startProxy(choose, { tries: bases.length });
  return {
    port: proxy.port,
    base: `http://127.0.0.1:${proxy.port}`,
    healthy: () => [...ready],
    newest: () => newest,
    proxy,
    async stop() {
      over = true;
      await Promise.all(watching);
      await proxy.stop();
    },
  };
}
