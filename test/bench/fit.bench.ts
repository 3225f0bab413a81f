/**
 * `npm run bench:fit`: every shared model fitted into half of its measured fp32 peak, and judged on data Snug
 * did not see. SNUG_PROVIDER picks the execution provider (default cpu).
 */
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import type { FitReport, Measurement } from '../../src/contract/types.js';
import { snug } from '../cli/run-snug.js';
import { accuracy, natsPerToken } from './evaluate.js';

const models = path.resolve('../shared/models');
const provider = process.env.SNUG_PROVIDER ?? 'cpu';
const folder = mkdtempSync(path.join(tmpdir(), 'snug-bench-'));
const rows: string[] = [];

const digits = ['--batch', '32'];
const cases = [
  { name: 'digits-mlp', file: 'digits-mlp.onnx', data: 'digits-calibration.npy', shape: digits, text: false },
  { name: 'digits-resnet', file: 'digits-resnet.onnx', data: 'digits-calibration.npy', shape: digits, text: false },
  { name: 'digits-vit', file: 'digits-vit.onnx', data: 'digits-calibration.npy', shape: digits, text: false },
  {
    name: 'kjv-gpt',
    file: 'kjv-gpt',
    data: 'kjv-calibration.txt',
    shape: ['--batch', '4', '--dim', 'sequence=128'],
    text: true,
  },
];

const size = (bytes: number): string => `${(bytes / 1e6).toFixed(3)} MB`;

describe.skipIf(!existsSync(models))('fit into half of the fp32 peak', () => {
  afterAll(() => {
    rmSync(folder, { recursive: true, force: true });
    console.log(
      `\nprovider ${provider}\nmodel | fp32 peak | budget | predicted | measured | file | quality before → after | seconds | plan`,
    );
    for (const row of rows) console.log(row);
  });

  for (const { name, file, data, shape, text } of cases) {
    it(name, async () => {
      const model = path.join(models, file);
      const output = path.join(folder, `${name}.onnx`);
      const base = await snug(['memory', model, ...shape, '--provider', provider, '--measure', '--json', '-q']);
      const { measured } = JSON.parse(base.stdout) as { measured: Measurement };
      const budget = Math.floor(measured.peakBytes / 2);
      const result = await snug([
        ...['fit', model, '-o', output, '--budget', String(budget), '--provider', provider],
        ...['--calibrate', path.join(models, data), ...shape, '--json', '-q'],
      ]);
      expect(result.stderr).toBe('');
      expect(result.code).toBe(0);
      const report = JSON.parse(result.stdout) as FitReport;
      const judge = (target: string): Promise<number> =>
        text
          ? natsPerToken(target, path.join(models, 'kjv-test.txt'), 128, path.join(models, 'kjv-gpt'))
          : accuracy(target, path.join(models, 'digits-test.npy'), path.join(models, 'digits-test-labels.npy'));
      const [before, after] = [await judge(model), await judge(output)];
      const show = (value: number): string => (text ? `${value.toFixed(4)} nats` : `${(value * 100).toFixed(2)} %`);
      const formats = new Map<string, number>();
      for (const w of report.plan.weights) formats.set(w.dtype, (formats.get(w.dtype) ?? 0) + w.bytesBefore);
      rows.push(
        [
          name,
          size(measured.peakBytes),
          size(budget),
          size(report.predicted.peakBytes),
          size(report.measured?.peakBytes ?? NaN),
          `${size(report.before.fileBytes)} → ${size(report.after.fileBytes)}`,
          `${show(before)} → ${show(after)}`,
          report.seconds.toFixed(1),
          `${[...formats].map(([d, b]) => `${d} ${size(b)}`).join(', ')}; pruned ${report.plan.pruneRatio}`,
          ...(report.measured?.fallbacks ?? []).map((f) => `fallback ${f.operator} ${f.node} → ${f.provider}`),
        ].join(' | '),
      );
      expect(report.fits).toBe(true);
      expect(report.measured?.peakBytes).toBeLessThanOrEqual(budget);
      if (text) expect(after - before).toBeLessThanOrEqual(0.03);
      else expect(before - after).toBeLessThanOrEqual(0.01);
    });
  }
});
