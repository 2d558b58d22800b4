/** Three rings: `pure` runs anywhere, `service` against real PostgreSQL, Redis, processes, `browser` in Chromium. */
import { defineConfig } from 'vitest/config';

const FOLDERS = ['packages/*/{src,bin,test}', 'tools/src', 'bench/src'];
const files = (suffix: string): string[] => FOLDERS.map((folder) => `${folder}/**/*.${suffix}.ts`);
const OTHERS = ['**/node_modules/**', '**/dist/**'];

export default defineConfig({
  // Not 'import': vitest hands these to node as --conditions, and require() would then load ES modules (pg breaks).
  ssr: { resolve: { conditions: ['source', 'node'] } },
  test: {
    // Many tests wait for time limits and processes: on two cores three at once take a quarter less time than two.
    maxWorkers: 3,
    // Starts nothing by itself: one PostgreSQL for the run once a test asks for it.
    globalSetup: ['packages/testkit/src/cluster-service.ts'],
    projects: [
      {
        extends: true,
        test: {
          name: 'pure',
          include: files('test'),
          exclude: [...OTHERS, '**/*.service.test.ts', '**/*.browser.test.ts'],
          testTimeout: 20_000,
          hookTimeout: 60_000,
        },
      },
      {
        extends: true,
        test: {
          name: 'service',
          include: files('service.test'),
          exclude: OTHERS,
          testTimeout: 120_000,
          hookTimeout: 180_000,
        },
      },
      {
        extends: true,
        test: {
          name: 'browser',
          include: files('browser.test'),
          exclude: OTHERS,
          testTimeout: 120_000,
          hookTimeout: 180_000,
        },
      },
    ],
  },
});
