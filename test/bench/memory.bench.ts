/**
 * `npm run bench:memory`: memory predicted by src/memory against the runtime's own counters on the CPU, for the shared
 * models and for graphs of the size of well-known networks, in several number formats, at three shapes each; and the
 * output shape of every node that ran against the predicted one.
 *
 * BENCH_ONLY=vit-b:int8,resnet50 picks models (and formats), BENCH_DTYPES=fp32,int8-static picks formats, BENCH_RESUME=1
 * keeps the cases already in test-results/bench-memory.json. Writes one model file at a time into the folder for
 * temporary files (at most 0.7 GB) and removes it.
 */
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import type { Dtype } from '../../src/contract/types.js';
import { prepareEstimate } from '../../src/memory/estimate.js';
import type { Model } from '../../src/onnx/model.js';
import { readModel } from '../../src/onnx/read.js';
import { writeModel } from '../../src/onnx/write.js';
import { benchDtypes, benchModels, inFormat, samples, type BenchModel, type Shape } from './memory/cases.js';
import { compareShapes } from './memory/compare.js';
import { observe } from './memory/observe.js';
import { distance, summaryOf, tableOf, type Row } from './memory/report.js';

const folder = mkdtempSync(path.join(tmpdir(), 'snug-bench-memory-'));
const results = path.resolve('test-results/bench-memory.json');
const only = (process.env.BENCH_ONLY ?? '').split(',').filter((part) => part !== '');
const dtypes = process.env.BENCH_DTYPES?.split(',') ?? benchDtypes;
const kept =
  process.env.BENCH_RESUME && existsSync(results) ? (JSON.parse(readFileSync(results, 'utf8')) as Row[]) : [];
const rows: Row[] = [...kept];

const wanted = (model: string, dtype: string): boolean =>
  only.length === 0 || only.some((part) => part === model || part === `${model}:${dtype}`);

async function measure(model: Model, file: string, bench: BenchModel, dtype: string, shape: Shape): Promise<Row> {
  const started = performance.now();
  const prepared = prepareEstimate(model);
  const estimate = prepared.estimate({ provider: 'cpu', ...shape });
  const ready = performance.now();
  prepared.estimate({ provider: 'cpu', batch: shape.batch + 1, dims: shape.dims });
  const again = performance.now();
  const observed = await observe(file, model, estimate.dims);
  const { nodes, equal, differences } = compareShapes(model, estimate.dims, observed.runs);
  for (const line of differences.slice(0, 5)) console.log(`${bench.name} ${dtype}: ${line}`);
  return {
    model: bench.name,
    dtype,
    batch: shape.batch,
    dims: shape.dims,
    measured: { load: observed.load.low, cold: observed.cold.low, warm: observed.warm.low, peak: observed.peak },
    error: {
      load: distance(estimate.load.peakBytes, observed.load),
      cold: distance(estimate.cold.peakBytes, observed.cold),
      warm: distance(estimate.warm.peakBytes, observed.warm),
      peak: estimate.peakBytes / observed.peak - 1,
    },
    warmIsRange: observed.warm.low < observed.warm.high,
    nodes,
    equalShapes: equal,
    unknown: estimate.unknown.length,
    prepareMs: ready - started,
    newBatchMs: again - ready,
  };
}

function keep(row: Row): void {
  rows.push(row);
  mkdirSync(path.dirname(results), { recursive: true });
  writeFileSync(results, JSON.stringify(rows, null, 1));
}

describe.skipIf(!existsSync(samples))('memory predicted against measured (needs the shared models)', () => {
  afterAll(() => {
    rmSync(folder, { recursive: true, force: true });
    if (rows.length > 0) console.log(`\n${tableOf(rows)}\n\n${summaryOf(rows)}`);
  });

  for (const bench of benchModels) {
    for (const dtype of dtypes.filter((each) => wanted(bench.name, each))) {
      const done = kept.filter((row) => row.model === bench.name && row.dtype === dtype);
      it.skipIf(done.length >= bench.shapes.length)(`${bench.name} ${dtype}`, async () => {
        const file = path.join(folder, `${bench.name}-${dtype}.onnx`);
        writeModel(inFormat(bench.build(), dtype as Dtype), file);
        try {
          const model = readModel(file);
          for (const shape of bench.shapes) keep(await measure(model, file, bench, dtype, shape));
        } finally {
          rmSync(file, { force: true });
          rmSync(`${file}.data`, { force: true });
        }
        const own = rows.filter((row) => row.model === bench.name && row.dtype === dtype);
        expect(own.map((row) => row.unknown)).toEqual(own.map(() => 0));
        expect(Math.max(...own.map((row) => Math.abs(row.error.warm)))).toBeLessThanOrEqual(0.05);
        expect(Math.max(...own.map((row) => Math.abs(row.error.cold)))).toBeLessThanOrEqual(0.05);
        expect(Math.max(...own.map((row) => Math.abs(row.error.load)))).toBeLessThanOrEqual(0.1);
      });
    }
  }
});
