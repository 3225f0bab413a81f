/**
 * `npm run bench:static`: int8 with calibrated activations, Snug beside onnxruntime's own tool on the same
 * calibration samples, judged on others: signal-to-noise ratio of the first output, accuracy, time, peak memory of
 * the tool, bytes. Python with onnxruntime and onnx (SNUG_PYTHON names the program) runs the other tool; without it
 * Snug stands alone. SNUG_BENCH_MODELS (comma-separated) picks models; SNUG_BENCH_DIR keeps the generated ones.
 * Linux only: memory is read from /proc.
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import * as ort from 'onnxruntime-node';
import { afterAll, describe, expect, it } from 'vitest';
import { openData, openModel } from '../../src/app/open.js';
import type { Dataset } from '../../src/runtime/dataset-types.js';
import type { Feeds } from '../../src/runtime/types.js';
import { accuracy } from './evaluate.js';
import { cases, type StaticCase } from './quantize-static/cases.js';
import { observe, type Observed } from './process-tree.js';

const here = path.dirname(fileURLToPath(import.meta.url));
const python = process.env.SNUG_PYTHON ?? 'python3';
const scratch = mkdtempSync(path.join(tmpdir(), 'snug-static-'));
const kept = process.env.SNUG_BENCH_DIR ?? scratch;
mkdirSync(kept, { recursive: true });
const chosen = process.env.SNUG_BENCH_MODELS?.split(',') ?? Object.keys(cases);
const methods = process.env.SNUG_BENCH_METHODS?.split(',') ?? ['MinMax', 'MinMaxPerChannel', 'Entropy', 'Percentile'];
const calibrationSamples = 128;
const quiet = { logSeverityLevel: 3 } as const;
const heldOutSamples = 256;

function hasPeer(): boolean {
  try {
    execFileSync(python, ['-c', 'import onnx, onnxruntime.quantization'], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}

const numpyTypes: Record<string, string> = { float32: 'float32', int64: 'int64', int32: 'int32', bool: 'bool' };

/** Writes the feeds of the calibration samples, one file for each tensor, for another program to read. */
async function exportFeeds(dataset: Dataset, folder: string): Promise<void> {
  mkdirSync(folder, { recursive: true });
  const batches: Record<string, { file: string; dtype: string; dims: number[] }>[] = [];
  const step = dataset.fixedBatch ?? 1;
  for (let start = 0; start + step <= Math.min(calibrationSamples, dataset.samples); start += step) {
    const feeds = await dataset.feeds(start, step);
    const entries = Object.entries(feeds).map(([name, { dtype, dims, data }], i) => {
      const file = `${start}-${i}.bin`;
      writeFileSync(path.join(folder, file), new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
      return [name, { file, dtype: numpyTypes[dtype]!, dims }];
    });
    batches.push(Object.fromEntries(entries));
  }
  writeFileSync(path.join(folder, 'feeds.json'), JSON.stringify(batches));
}

async function firstOutput(session: ort.InferenceSession, feeds: Feeds): Promise<Float32Array> {
  const tensors = Object.fromEntries(
    Object.entries(feeds).map(([name, t]) => [
      name,
      new ort.Tensor(t.dtype as 'float32', t.data as Float32Array, t.dims),
    ]),
  );
  const name = session.outputNames[0]!;
  return (await session.run(tensors, [name]))[name]!.data as Float32Array;
}

interface Judged {
  sqnr: number;
  /** Milliseconds for the held-out samples, in this process. */
  milliseconds: number;
}

/** The result beside the original on held-out samples, plain onnxruntime with its default options. */
async function judge(original: string, result: string, test: StaticCase): Promise<Judged> {
  const opened = openModel(original);
  const dataset = await openData(test.heldOut, opened, test.dims);
  const [exact, small] = [
    await ort.InferenceSession.create(original, quiet),
    await ort.InferenceSession.create(result, quiet),
  ];
  let signal = 0;
  let noise = 0;
  let milliseconds = 0;
  const total = Math.min(heldOutSamples, dataset.samples);
  for (let start = 0; start < total; start += 4) {
    const feeds = await dataset.feeds(start, Math.min(4, total - start));
    const wanted = await firstOutput(exact, feeds);
    const started = performance.now();
    const got = await firstOutput(small, feeds);
    milliseconds += performance.now() - started;
    for (let i = 0; i < wanted.length; i++) {
      signal += wanted[i]! ** 2;
      noise += (wanted[i]! - got[i]!) ** 2;
    }
  }
  await Promise.all([exact.release(), small.release(), dataset.close()]);
  return { sqnr: 10 * Math.log10(signal / noise), milliseconds };
}

interface Row {
  tool: string;
  observed: Observed;
  judged: Judged | null;
  accuracy: number | null;
  bytes: number;
}

async function row(test: StaticCase, tool: string, file: string, observed: Observed): Promise<Row> {
  if (observed.code !== 0) {
    console.log(`${test.name} ${tool}: ${observed.stderr.split('\n').filter(Boolean).slice(-1).join('')}`);
    return { tool, observed, judged: null, accuracy: null, bytes: 0 };
  }
  const judged = await judge(test.model, file, test);
  const share = test.labels === undefined ? null : await accuracy(file, test.heldOut, test.labels);
  return { tool, observed, judged, accuracy: share, bytes: statSync(file).size };
}

function print(test: StaticCase, rows: readonly Row[], originalAccuracy: number | null): void {
  const before = statSync(test.model).size;
  const lines = rows.map(({ tool, observed, judged, accuracy: share, bytes }) =>
    [
      tool.padEnd(28),
      judged === null ? 'no result'.padEnd(9) : `${judged.sqnr.toFixed(1)} dB`.padStart(9),
      share === null ? ''.padStart(8) : `${(share * 100).toFixed(2)} %`.padStart(8),
      bytes === 0 ? ''.padStart(7) : `${(before / bytes).toFixed(2)}×`.padStart(7),
      `${observed.seconds.toFixed(1)} s`.padStart(8),
      `${observed.peakMegabytes.toFixed(0)} MB`.padStart(8),
      `(${((observed.peakMegabytes * 1e6) / (1.5 * before + 150e6)).toFixed(2)} of 1.5 × file + 150 MB)`,
      judged === null ? '' : `${judged.milliseconds.toFixed(0)} ms`.padStart(9),
    ].join(' '),
  );
  const truth = originalAccuracy === null ? '' : `, original ${(originalAccuracy * 100).toFixed(2)} %`;
  console.log([`${test.name} (${(before / 1e6).toFixed(1)} MB${truth})`, ...lines].join('\n'));
}

describe.skipIf(process.platform !== 'linux')('int8 with calibrated activations', () => {
  afterAll(() => rmSync(scratch, { recursive: true, force: true }));
  const peer = hasPeer();
  for (const name of chosen) {
    it(name, async () => {
      const test = cases[name]!(kept);
      const opened = openModel(test.model);
      const dataset = await openData(test.calibration, opened, test.dims);
      const feedFolder = path.join(scratch, `${name}-feeds`);
      await exportFeeds(dataset, feedFolder);
      await dataset.close();
      const rows: Row[] = [];
      const dims = Object.entries(test.dims).flatMap(([dim, size]) => ['--dim', `${dim}=${size}`]);
      const environment = { ...process.env, SNUG_SKIP_BUILD: '1', SNUG_SETTINGS_DIR: path.join(scratch, 'settings') };
      for (const dtype of ['int8-static', 'int8-dynamic']) {
        const file = path.join(scratch, `${name}-${dtype}.onnx`);
        const calibrate = dtype === 'int8-static' ? ['--calibrate', test.calibration] : [];
        const args = ['quantize', test.model, '-o', file, '--dtype', dtype, ...calibrate, ...dims, '-q', '--force'];
        const observed = await observe(process.execPath, ['src/cli/snug.js', ...args], environment);
        rows.push(await row(test, `Snug ${dtype}`, file, observed));
      }
      for (const method of peer ? [...methods, 'Dynamic'] : []) {
        const file = path.join(scratch, `${name}-${method}.onnx`);
        const args = [path.join(here, 'quantize-static', 'peer.py'), test.model, feedFolder, file, method];
        const observed = await observe(python, args, process.env);
        rows.push(await row(test, `onnxruntime ${method}`, file, observed));
        rmSync(file, { force: true });
      }
      const truth = test.labels === undefined ? null : await accuracy(test.model, test.heldOut, test.labels);
      print(test, rows, truth);
      expect(rows[0]!.judged).not.toBeNull();
      const minMax = rows.find(({ tool }) => tool === 'onnxruntime MinMax')?.judged;
      if (minMax) expect(rows[0]!.judged!.sqnr).toBeGreaterThan(minMax.sqnr + (test.kind === 'conv' ? 0 : 6));
      if (truth !== null) expect(rows[0]!.accuracy!).toBeGreaterThanOrEqual(truth - 0.003);
    });
  }
});
