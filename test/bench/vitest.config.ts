import { defineConfig } from 'vitest/config';

/** Benchmarks: long, printed, never part of `npm test`. */
export default defineConfig({
  test: {
    include: ['test/bench/**/*.bench.ts'],
    globalSetup: ['test/build-engine.ts'],
    testTimeout: 3_600_000,
    hookTimeout: 3_600_000,
    env: { ORT_DISABLE_TELEMETRY: '1' },
    fileParallelism: false,
    reporters: ['default'],
    disableConsoleIntercept: true,
  },
});
