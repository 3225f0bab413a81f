import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { runArticle } from '../../../examples/article/article.js';
import { createRuntime } from '../../../src/runtime/client.js';

const folder = mkdtempSync(path.join(tmpdir(), 'snug-article-'));
const runtime = createRuntime({ threads: 1 });
afterAll(async () => {
  await runtime.close();
  rmSync(folder, { recursive: true, force: true });
});

it('saves memory in each step of the example, as predicted, and learns', async () => {
  const rows = await runArticle(folder, runtime);
  const [random, whole, micro, trained, pruned, small] = rows;
  for (const { predictedBytes, measuredBytes } of rows) {
    expect(Math.abs(predictedBytes / measuredBytes - 1)).toBeLessThan(0.15);
  }
  expect(micro!.measuredBytes).toBeLessThan(whole!.measuredBytes);
  expect(random!.accuracy).toBeLessThan(0.3);
  expect(trained!.accuracy).toBeGreaterThan(0.85);
  expect(pruned!.measuredBytes).toBeLessThan(trained!.measuredBytes * 0.6);
  expect(pruned!.accuracy).toBeGreaterThan(trained!.accuracy! - 0.1);
  expect(small!.measuredBytes).toBeLessThan(pruned!.measuredBytes);
  expect(small!.accuracy).toBeGreaterThan(pruned!.accuracy! - 0.02);
});
