import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/unit/**/*.test.ts', 'test/engine/**/*.test.ts', 'test/main/**/*.test.ts', 'test/cli/**/*.test.ts'],
    globalSetup: ['test/build-engine.ts'],
    testTimeout: 60_000,
    hookTimeout: 60_000,
    // Two workers: the suite starts real onnxruntime processes and must stay fast on two cores.
    maxWorkers: 2,
  },
});
