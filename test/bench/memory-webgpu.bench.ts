/**
 * `npm run bench:memory`, the part for WebGPU: device memory predicted by src/memory against what a software Vulkan
 * driver holds, for the shared models and for small versions of well-known networks, in fp32, int8 and int4 (the driver
 * has no fp16), at three shapes each. VK_ICD_FILENAMES names the driver; without a WebGPU adapter all of it is skipped.
 *
 * BENCH_ONLY=resnet50,kjv-gpt picks models, BENCH_DTYPES=fp32,int4 picks formats; BENCH_RESUME=1 keeps the cases already in
 * test-results/bench-memory-webgpu.json.
 */
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import type { Dtype, Estimate, Measurement } from '../../src/contract/types.js';
import { prepareEstimate } from '../../src/memory/estimate.js';
import type { Model } from '../../src/onnx/model.js';
import { readModel } from '../../src/onnx/read.js';
import { dataTypeName } from '../../src/onnx/tensor.js';
import { writeModel } from '../../src/onnx/write.js';
import { quantizableWeights, quantizeModel } from '../../src/quantize/index.js';
import { createRuntime } from '../../src/runtime/client.js';
import { syntheticFeeds } from '../../src/runtime/synthetic.js';
import type { RuntimeValue } from '../../src/runtime/types.js';
import { graphs } from './graphs/index.js';
import { samples, type BenchModel, type Shape } from './memory/cases.js';

const provider = 'webgpu';
const results = path.resolve('test-results/bench-memory-webgpu.json');
const folder = mkdtempSync(path.join(tmpdir(), 'snug-bench-webgpu-'));
const runtime = createRuntime();
const hasWebgpu = (await runtime.providers()).includes(provider);

const batches = (...sizes: number[]): Shape[] => sizes.map((batch) => ({ batch, dims: {} }));
const sample = (file: string) => () => readModel(path.join(samples, file));
const text = (...sizes: [number, number, number?][]): Shape[] =>
  sizes.map(([batch, sequence, past]) => ({
    batch,
    dims: { sequence, ...(past === undefined ? {} : { past_sequence: past }) },
  }));

/** Small enough for a driver that computes on the CPU: a run ends within seconds. */
const models: BenchModel[] = [
  { name: 'digits-mlp', build: sample('digits-mlp.onnx'), shapes: batches(1, 32, 512) },
  { name: 'digits-resnet', build: sample('digits-resnet.onnx'), shapes: batches(1, 4, 16) },
  { name: 'digits-vit', build: sample('digits-vit.onnx'), shapes: batches(1, 4, 16) },
  { name: 'kjv-gpt', build: sample('kjv-gpt/model.onnx'), shapes: text([1, 16, 0], [2, 32, 0], [2, 1, 64]) },
  { name: 'resnet50', build: () => graphs.resnet50({ scale: 1 / 8 }), shapes: batches(1, 2, 3) },
  { name: 'mobilenetv2', build: () => graphs.mobilenetv2({ scale: 1 / 4 }), shapes: batches(1, 2, 4) },
  {
    name: 'unet',
    build: () => graphs.unet({ scale: 1 / 8 }),
    shapes: [32, 48, 64].map((height) => ({ batch: 1, dims: { height, width: 32 } })),
  },
  { name: 'vit-b', build: () => graphs['vit-b']({ scale: 1 / 6, layers: 2 }), shapes: batches(1, 2, 4) },
  {
    name: 'bert-base',
    build: () => graphs['bert-base']({ scale: 1 / 6, layers: 2 }),
    shapes: text([1, 32], [2, 32], [1, 96]),
  },
  {
    name: 'gpt2',
    build: () => graphs.gpt2({ scale: 1 / 12, layers: 2 }),
    shapes: text([1, 16, 0], [1, 1, 64], [2, 8, 32]),
  },
];
const dtypes = (process.env.BENCH_DTYPES?.split(',') ?? ['fp32', 'int8', 'int4']) as Dtype[];
const phases = ['load', 'cold', 'warm', 'peak'] as const;

interface Row {
  model: string;
  dtype: Dtype;
  shape: string;
  predicted: Record<(typeof phases)[number], number>;
  measured: Record<(typeof phases)[number], number>;
  /** Whether the measured peak lies within the estimate's interval. */
  inside: boolean;
  fallbacks: number;
}

const only = (process.env.BENCH_ONLY ?? '').split(',').filter((part) => part !== '');
const kept =
  process.env.BENCH_RESUME && existsSync(results) ? (JSON.parse(readFileSync(results, 'utf8')) as Row[]) : [];
const rows: Row[] = [...kept];

function inFormat(model: Model, dtype: Dtype): Model {
  if (dtype === 'fp32') return model;
  const assignment = new Map(quantizableWeights(model, provider).map((weight) => [weight.name, dtype]));
  return quantizeModel(model, assignment, { provider }).model;
}

function inputsOf({ graph }: Model): RuntimeValue[] {
  return graph.inputs
    .filter(({ name }) => !graph.initializers.has(name))
    .map(({ name, dataType, dims }) => ({
      name,
      dtype: dataTypeName(dataType),
      dims: (dims ?? []).map((dim) => dim ?? ''),
    }));
}

const shapeName = ({ batch, dims }: Shape): string =>
  [`batch=${batch}`, ...Object.entries(dims).map(([name, size]) => `${name}=${size}`)].join(' ');

function rowOf(bench: BenchModel, dtype: Dtype, shape: Shape, estimate: Estimate, measured: Measurement): Row {
  return {
    model: bench.name,
    dtype,
    shape: shapeName(shape),
    predicted: {
      load: estimate.load.peakBytes,
      cold: estimate.cold.peakBytes,
      warm: estimate.warm.peakBytes,
      peak: estimate.peakBytes,
    },
    measured: {
      load: measured.load ?? 0,
      cold: measured.cold ?? 0,
      warm: measured.warm ?? 0,
      peak: measured.peakBytes,
    },
    inside: measured.peakBytes >= estimate.lowBytes && measured.peakBytes <= estimate.highBytes,
    fallbacks: measured.fallbacks.length,
  };
}

/** Written at once, so that a run cut short is not lost. */
function keep(row: Row): void {
  rows.push(row);
  mkdirSync(path.dirname(results), { recursive: true });
  writeFileSync(results, JSON.stringify(rows, null, 1));
}

const errorOf = (row: Row, phase: (typeof phases)[number]): number => row.predicted[phase] / row.measured[phase] - 1;
const percent = (value: number): string => `${(value * 100).toFixed(2)} %`;

function report(): void {
  console.log(
    `\nmodel | format | shape | ${phases.map((phase) => `${phase}: predicted MB | measured | error`).join(' | ')}`,
  );
  for (const row of rows) {
    const figures = phases.map((phase) =>
      [
        (row.predicted[phase] / 1e6).toFixed(2),
        (row.measured[phase] / 1e6).toFixed(2),
        percent(errorOf(row, phase)),
      ].join(' | '),
    );
    console.log([row.model, row.dtype, row.shape, ...figures, row.inside ? '' : 'outside the interval'].join(' | '));
  }
  for (const phase of phases) {
    const errors = rows.map((row) => Math.abs(errorOf(row, phase)));
    const sorted = [...errors].sort((a, b) => a - b);
    const worst = sorted.at(-1) ?? 0;
    const at = rows[errors.indexOf(worst)];
    const within = errors.filter((error) => error <= 0.05).length;
    console.log(
      `${phase}: median ${percent(sorted[sorted.length >> 1] ?? 0)}, ≤ 5 % in ${within} of ${rows.length}, ` +
        `largest ${percent(worst)} (${at?.model} ${at?.dtype} ${at?.shape})`,
    );
  }
  console.log(`inside the interval: ${rows.filter((row) => row.inside).length} of ${rows.length}`);
}

describe.skipIf(!hasWebgpu || !existsSync(samples))(
  'WebGPU memory predicted against measured (needs a WebGPU adapter and the shared models)',
  () => {
    afterAll(async () => {
      await runtime.close();
      rmSync(folder, { recursive: true, force: true });
      if (rows.length > 0) report();
    });

    for (const bench of models.filter(({ name }) => only.length === 0 || only.includes(name))) {
      for (const dtype of dtypes) {
        const done = kept.filter((row) => row.model === bench.name && row.dtype === dtype);
        it.skipIf(done.length >= bench.shapes.length)(`${bench.name} ${dtype}`, async () => {
          const modelPath = path.join(folder, `${bench.name}-${dtype}.onnx`);
          writeModel(inFormat(bench.build(), dtype), modelPath);
          const model = readModel(modelPath);
          const prepared = prepareEstimate(model);
          const own = [...done];
          for (const shape of bench.shapes.filter((each) => !done.some((row) => row.shape === shapeName(each)))) {
            const estimate = prepared.estimate({ provider, ...shape });
            const feeds = syntheticFeeds(inputsOf(model), { ...estimate.dims, ...shape.dims, batch: shape.batch }, 1);
            const measured = await runtime.measure({ modelPath, provider }, feeds, { warmRuns: 1, batch: shape.batch });
            const row = rowOf(bench, dtype, shape, estimate, measured);
            own.push(row);
            keep(row);
          }
          rmSync(modelPath, { force: true });
          expect(Math.max(...own.map((row) => Math.abs(errorOf(row, 'peak'))))).toBeLessThanOrEqual(0.15);
        });
      }
    }
  },
);
