import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/unit/**/*.test.ts', 'test/engine/**/*.test.ts', 'test/main/**/*.test.ts', 'test/cli/**/*.test.ts'],
    globalSetup: ['test/build-engine.ts'],
    // onnxruntime reports to its maker by default; Snug's own processes switch that off, and so do its tests.
    env: { ORT_DISABLE_TELEMETRY: '1' },
    testTimeout: 60_000,
    hookTimeout: 60_000,
    // Two workers: the suite starts real onnxruntime processes and must stay fast on two cores.
    maxWorkers: 2,
  },
});
