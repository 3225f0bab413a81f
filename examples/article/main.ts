/** `npm run example`: runs the article's example in a temporary folder and prints what each step needs. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { formatBytes, percent, table } from '../../src/cli/format.js';
import { createRuntime } from '../../src/runtime/client.js';
import { runArticle } from './article.js';

const folder = mkdtempSync(path.join(tmpdir(), 'snug-example-'));
const runtime = createRuntime();
try {
  const rows = await runArticle(folder, runtime);
  const lines = rows.map(({ step, predictedBytes, measuredBytes, accuracy }) => [
    step,
    formatBytes(predictedBytes),
    formatBytes(measuredBytes),
    accuracy === null ? '' : percent(accuracy),
  ]);
  process.stdout.write(`${table(['step', 'predicted', 'measured', 'right answers'], lines, [1, 2, 3])}\n`);
} finally {
  await runtime.close();
  rmSync(folder, { recursive: true, force: true });
}
