/**
 * Whether this process should get work. One tagged state (starting -> ready -> draining) and named checks.
 *
 * Guarantees: a check that does not answer in its time counts as failed; callers that come at once share one run, so
 * probing costs the same however often it is done. A failed `required` check: not ready. Any other failed check:
 * `degraded`.
 */

/** Where the process is in its life. */
export type LifeState = { readonly kind: 'starting' } | { readonly kind: 'ready' } | { readonly kind: 'draining' };

/** What `ready` found, as the route answers it. `store-unavailable`: a required check failed. */
export interface HealthReport {
  readonly status: 'ok' | 'degraded' | 'starting' | 'draining' | 'store-unavailable';
  readonly checks: Readonly<Record<string, 'ok' | 'failed'>>;
}

/** A named check. It may reject: that is a failure. */
export interface HealthCheck {
  readonly name: string;
  /** Without it the process cannot work. */
  readonly required: boolean;
  readonly timeoutMs: number;
  readonly check: () => Promise<boolean> | boolean;
}

/** The state and the checks of one app. */
export interface Health {
  register(check: HealthCheck): void;
  state(): LifeState;
  /** Goes to `next` when the table allows it; answers whether it did. */
  enter(next: LifeState['kind']): boolean;
  ready(): Promise<HealthReport>;
}

const TRANSITIONS: Readonly<Record<LifeState['kind'], readonly LifeState['kind'][]>> = {
  starting: ['ready', 'draining'],
  ready: ['draining'],
  draining: [],
};

/** Builds a {@link Health} in the state `starting`. */
export function createHealth(): Health {
  const checks: HealthCheck[] = [];
  let state: LifeState = { kind: 'starting' };
  let running: Promise<ReadonlyMap<HealthCheck, boolean>> | undefined;

  const runOnce = (): Promise<ReadonlyMap<HealthCheck, boolean>> => {
    running ??= runAll(checks).finally(() => {
      running = undefined;
    });
    return running;
  };

  return {
    register: (check) => void checks.push(check),
    state: () => state,
    enter(next) {
      const allowed = TRANSITIONS[state.kind].includes(next);
      if (allowed) state = { kind: next };
      return allowed;
    },
    ready: async () => report(state, await runOnce(), () => state),
  };
}

/** The report for a state and the results of checks; the state is looked at again, since checks take time. */
function report(before: LifeState, results: ReadonlyMap<HealthCheck, boolean>, after: () => LifeState): HealthReport {
  const checks = Object.fromEntries([...results].map(([check, fine]) => [check.name, fine ? 'ok' : 'failed'] as const));
  const life = after().kind === 'draining' ? after() : before;
  if (life.kind !== 'ready') return { status: life.kind, checks };
  const failed = [...results].filter(([, fine]) => !fine).map(([check]) => check);
  if (failed.some((check) => check.required)) return { status: 'store-unavailable', checks };
  return { status: failed.length > 0 ? 'degraded' : 'ok', checks };
}

async function runAll(checks: readonly HealthCheck[]): Promise<ReadonlyMap<HealthCheck, boolean>> {
  return new Map(await Promise.all(checks.map(async (check) => [check, await runWithin(check)] as const)));
}

async function runWithin(check: HealthCheck): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<false>((resolve) => {
    timer = setTimeout(() => resolve(false), check.timeoutMs);
  });
  const answer = async (): Promise<boolean> => (await check.check()) === true;
  try {
    return await Promise.race([answer().catch(() => false), late]);
  } finally {
    clearTimeout(timer);
  }
}
