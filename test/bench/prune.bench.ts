/**
 * `npm run bench:prune`: every shared model pruned by three ratios with every method, and judged on data Snug did
 * not see. Prints parameters, estimated and measured peak memory on cpu, latency, quality and time; the share is
 * how far the measured peak fell, over the bytes of the removed parameters plus the fall of the most activations alive
 * at once. For the share the runtime's memory pattern is off: with it all activations lie in one block whose size goes
 * in powers of two, and pruning shows in steps (that share stands behind it, in brackets). Repair gets 100 unlabelled
 * samples. SNUG_PRUNE_MODELS and SNUG_PRUNE_RATIOS (comma-separated) pick fewer.
 */
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { openData, openModel } from '../../src/app/open.js';
import { pruneMethods, type PruneMethod } from '../../src/contract/types.js';
import { madeUpDataset } from '../../src/fit/made-up.js';
import { estimateMemory } from '../../src/memory/estimate.js';
import type { Model } from '../../src/onnx/model.js';
import { readModel } from '../../src/onnx/read.js';
import { writeModel } from '../../src/onnx/write.js';
import { pruneModel } from '../../src/prune/index.js';
import { createRuntime } from '../../src/runtime/client.js';
import { accuracy, natsPerToken } from './evaluate.js';

const models = path.resolve('../shared/models');
const folder = mkdtempSync(path.join(tmpdir(), 'snug-bench-prune-'));
const runtime = createRuntime();
const chosen = (name: string, all: string[]): string[] => process.env[name]?.split(',') ?? all;
const ratios = chosen('SNUG_PRUNE_RATIOS', ['0.15', '0.3', '0.5']).map(Number);
const methods = chosen('SNUG_PRUNE_METHODS', [...pruneMethods, 'made-up']) as Method[];
const rows: string[] = [];
const tell = (row: string): void => {
  rows.push(row);
  console.log(row);
};

interface Case {
  name: string;
  file: string;
  data: string;
  text: boolean;
  batch: number;
  dims: Record<string, number>;
}

const cases: Case[] = ['digits-mlp', 'digits-resnet', 'digits-vit'].map((name) => ({
  name,
  file: `${name}.onnx`,
  data: 'digits-calibration.npy',
  text: false,
  batch: 32,
  dims: {},
}));
cases.push({
  name: 'kjv-gpt',
  file: 'kjv-gpt',
  data: 'kjv-calibration.txt',
  text: true,
  batch: 4,
  dims: { sequence: 128 },
});

/** `made-up`: repair without samples. */
type Method = PruneMethod | 'made-up';

/** What must stay (share of accuracy) or may be lost (nats) with each method, by ratio. */
const targets: Partial<Record<Method, Record<number, { share: number; nats: number }>>> = {
  repair: { 0.3: { share: 0.99, nats: 0.05 }, 0.5: { share: 0.96, nats: 0.2 } },
  'made-up': { 0.15: { share: 0.98, nats: 0.2 } },
};

/**
 * From here on the share is judged. The runtime's arena hands out a free block whole unless it is twice as large as
 * what is asked for: activations that shrink by a few percent may go on taking what they took.
 */
const judgedShare = 0.3;

const megabytes = (bytes: number): string => `${(bytes / 1e6).toFixed(3)} MB`;

/** What a network holds: its weights as stored (float32), and the most activations alive at once in a run on cpu. */
interface Contents {
  estimated: number;
  weights: number;
  activations: number;
}

function contents(model: Model, one: Case): Contents {
  const estimate = estimateMemory(model, { provider: 'cpu', batch: one.batch, dims: one.dims });
  const activations = estimate.timeline.map((_, at) =>
    estimate.lifetimes!.filter(({ from, to }) => from <= at && at <= to).reduce((sum, { bytes }) => sum + bytes, 0),
  );
  const weights = [...model.graph.initializers.values()].reduce((sum, { data }) => sum + data.byteLength, 0);
  return { estimated: estimate.peakBytes, weights, activations: Math.max(...activations) };
}

/** What the removed parameters and activations amount to: their bytes as stored, and how far the most alive at once fell. */
function removedBytes(dense: Contents, pruned: Contents): number {
  return dense.weights - pruned.weights + dense.activations - pruned.activations;
}

function judge(file: string, one: Case): Promise<number> {
  return one.text
    ? natsPerToken(file, path.join(models, 'kjv-test.txt'), 128, path.join(models, 'kjv-gpt'))
    : accuracy(file, path.join(models, 'digits-test.npy'), path.join(models, 'digits-test-labels.npy'));
}

describe.skipIf(!existsSync(models))('prune (needs the sample models)', () => {
  afterAll(async () => {
    await runtime.close();
    rmSync(folder, { recursive: true, force: true });
    console.log(
      '\nmodel | method | ratio | parameters | estimated peak | measured peak | share of what was removed | latency ms | quality | change | target | seconds',
    );
    for (const row of rows) console.log(row);
  });

  for (const one of cases.filter(({ name }) => chosen('SNUG_PRUNE_MODELS', [name]).includes(name))) {
    it(one.name, async () => {
      const opened = openModel(path.join(models, one.file));
      const dataset = await openData(path.join(models, one.data), opened, one.dims);
      const feeds = await dataset.feeds(0, one.batch);
      const measure = (modelPath: string, memoryPattern = true) =>
        runtime.measure({ modelPath, provider: 'cpu', levers: { memoryPattern } }, feeds, {
          warmRuns: memoryPattern ? 9 : 2,
          batch: one.batch,
        });
      const dense = { ...contents(opened.model, one), measured: await measure(opened.path) };
      const plainPeak = (await measure(opened.path, false)).peakBytes;
      const before = await judge(opened.path, one);
      const shown = (value: number): string =>
        one.text ? `${value.toFixed(4)} nats` : `${(value * 100).toFixed(2)} %`;
      tell(
        [
          one.name,
          'dense',
          '0',
          opened.summary.parameters,
          megabytes(dense.estimated),
          megabytes(dense.measured.peakBytes),
          '',
          dense.measured.latencyMs.toFixed(2),
          shown(before),
        ].join(' | '),
      );
      const misses: string[] = [];
      for (const ratio of ratios) {
        for (const method of methods) {
          const started = performance.now();
          const blind = method === 'made-up';
          const inputs = blind ? madeUpDataset(opened.model, opened.inputs, one.dims) : dataset;
          const samples = { runtime, dataset: inputs, workDirectory: folder, maxSamples: 100, dims: one.dims };
          const result = await pruneModel(opened.model, { ratio, method: blind ? 'repair' : method, samples });
          const file = path.join(folder, `${one.name}-${method}-${ratio}.onnx`);
          writeModel(result.model, file, { overwrite: true });
          const seconds = (performance.now() - started) / 1000;
          const pruned = contents(readModel(file), one);
          const measured = await measure(file);
          const after = await judge(file, one);
          const removed = removedBytes(dense, pruned);
          const percent = (fallen: number): number => Math.round((100 * fallen) / removed);
          const share = percent(plainPeak - (await measure(file, false)).peakBytes);
          const shareWithPattern = percent(dense.measured.peakBytes - measured.peakBytes);
          const target = targets[method]?.[ratio];
          const reached =
            target === undefined ? null : one.text ? after - before <= target.nats : after >= target.share * before;
          if (reached === false) misses.push(`${method} ${ratio}: ${shown(after)}`);
          if (ratio >= judgedShare && share < 80) misses.push(`${method} ${ratio}: ${share} % of what was removed`);
          tell(
            [
              one.name,
              method,
              ratio,
              result.after.parameters,
              megabytes(pruned.estimated),
              megabytes(measured.peakBytes),
              `${share} % (${shareWithPattern} %)`,
              measured.latencyMs.toFixed(2),
              shown(after),
              one.text ? (after - before).toFixed(4) : `${((after / before) * 100).toFixed(2)} %`,
              reached === null ? '' : reached ? 'reached' : 'missed',
              seconds.toFixed(1),
            ].join(' | '),
          );
        }
      }
      await dataset.close();
      expect(misses).toEqual([]);
    });
  }
});
