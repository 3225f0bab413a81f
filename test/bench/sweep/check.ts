import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { quantizeFile } from '../../../src/app/shrink.js';
import type { OpenedModel } from '../../../src/app/open.js';
import { SnugError } from '../../../src/contract/errors.js';
import type { Dtype, Provider } from '../../../src/contract/types.js';
import { float16BitsToFloat32 } from '../../../src/onnx/half.js';
import { addSignal, emptySignalSums, sqnrDb } from '../../../src/quality/metrics.js';
import type { Dataset } from '../../../src/runtime/dataset-types.js';
import type { Feeds, Runtime, RuntimeTensor } from '../../../src/runtime/types.js';

export type Format = Exclude<Dtype, 'fp32'>;

/** What became of one format of one model on one provider. */
export interface SweepRow {
  model: string;
  format: Format;
  provider: Provider;
  /** `refused`: said to be impossible before anything was written. */
  outcome: 'passed' | 'refused' | 'failed';
  /** Signal-to-noise ratio of the answers against the original on the CPU, dB. */
  db: number | null;
  bytesBefore: number;
  bytesAfter: number | null;
  /** Nodes by provider as the runtime placed them. */
  placement: Record<string, number>;
  /** Operators the original does not leave to the CPU. */
  fallbacks: string[];
  /** Weights that kept another format than asked: reason → how many. */
  kept: Record<string, number>;
  problem: string;
}

/**
 * The least the answers of a format may have in common with the original's, dB. Far below what trained networks
 * keep: networks of random weights amplify small errors, and what the sweep looks for is broken arithmetic.
 */
export const floors: Record<Format, number> = {
  fp16: 35,
  int8: 20,
  'int8-dynamic': 10,
  'int8-static': 8,
  int4: 4,
  nf4: 4,
  int2: 0,
};

const floats = ({ dtype, data }: RuntimeTensor): Float32Array | null =>
  dtype === 'float32' ? (data as Float32Array) : dtype === 'float16' ? float16BitsToFloat32(data as Uint16Array) : null;

/** Every answer in common, as one number; throws what is wrong with them. */
export function compareAnswers(expected: Feeds, actual: Feeds): number {
  const sums = emptySignalSums();
  for (const [name, tensor] of Object.entries(expected)) {
    const other = actual[name];
    if (other === undefined) throw new Error(`the output ${name} is gone`);
    if (other.dtype !== tensor.dtype) throw new Error(`${name} became ${other.dtype}, not ${tensor.dtype}`);
    if (other.dims.join() !== tensor.dims.join()) throw new Error(`${name} became [${other.dims.join()}]`);
    const [right, found] = [floats(tensor), floats(other)];
    if (right === null || found === null) continue;
    if (found.some((value, i) => !Number.isFinite(value) && Number.isFinite(right[i]))) {
      throw new Error(`${name} is not finite`);
    }
    addSignal(sums, right, found);
  }
  return sqnrDb(sums);
}

/** Loads a file in a process of its own and runs it once. */
export async function answersOf(runtime: Runtime, file: string, provider: Provider, feeds: Feeds): Promise<Feeds> {
  const session = await runtime.open({ modelPath: file, provider });
  try {
    return await session.run(feeds);
  } finally {
    await session.close();
  }
}

/** How the original does on a provider, to know what quantizing it changed. */
export interface Original {
  answers: Feeds;
  /** Operators it leaves to the CPU on each provider; null where the original itself fails. */
  fallbacks: Partial<Record<Provider, readonly string[] | null>>;
}

export interface SweepJob {
  name: string;
  opened: OpenedModel;
  dataset: Dataset;
  dims: Record<string, number>;
  feeds: Feeds;
  original: Original;
  format: Format;
  provider: Provider;
  target: string;
  /** What files of these contents did before: formats that fall back to the same one are run once. */
  seen: Map<string, Ran>;
}

type Ran = Pick<SweepRow, 'placement' | 'fallbacks'> & { db: number };

/** Loads and runs a file twice: for where its nodes are, and for its answers. @throws SnugError, Error of the answers */
async function run(runtime: Runtime, { target, provider, feeds, original, seen }: SweepJob): Promise<Ran> {
  const key = `${provider} ${createHash('sha256').update(readFileSync(target)).digest('hex')}`;
  const known = seen.get(key);
  if (known !== undefined) return known;
  const measured = await runtime.measure({ modelPath: target, provider }, feeds, { warmRuns: 0, batch: 1 });
  const usual = new Set(original.fallbacks[provider] ?? []);
  const ran: Ran = {
    placement: measured.placement,
    fallbacks: measured.fallbacks.map(({ operator }) => operator).filter((operator) => !usual.has(operator)),
    db: compareAnswers(original.answers, await answersOf(runtime, target, provider, feeds)),
  };
  seen.set(key, ran);
  return ran;
}

const messageOf = (error: unknown): string =>
  error instanceof SnugError ? `${error.code} ${error.message} ${error.details ?? ''}` : String(error);

/** What is wrong with a file that loads and runs; null when nothing is. */
export function problemOf(row: SweepRow, original: Original): string | null {
  if (Object.keys(row.kept).some((why) => why.endsWith('NO REASON'))) return 'a weight is kept without a reason';
  // Where the original does not run, nothing is known of what it leaves to the CPU.
  if (row.fallbacks.length > 0 && original.fallbacks[row.provider] !== null)
    return `quantizing sends ${[...new Set(row.fallbacks)].join(', ')} to the CPU`;
  return (row.db ?? NaN) >= floors[row.format] ? null : `answers keep ${row.db?.toFixed(1) ?? 'no'} dB only`;
}

/** Quantizes as `snug quantize` does, loads, runs, checks. Never throws. */
export async function sweepOne(runtime: Runtime, job: SweepJob): Promise<SweepRow> {
  const { opened, dataset, dims, format, provider, target } = job;
  const row: SweepRow = {
    ...{ model: job.name, format, provider, outcome: 'failed', db: null, bytesAfter: null },
    ...{ bytesBefore: opened.summary.weightBytes, placement: {}, fallbacks: [], kept: {}, problem: '' },
  };
  let step = 'quantizing';
  try {
    const result = await quantizeFile({
      ...{ opened, outputPath: target, dtype: format, provider, dims, runtime, overwrite: true },
      // As people do it: samples for what needs them, none for the rest.
      dataset: format === 'int8-static' ? dataset : null,
      onProgress: () => undefined,
      signal: new AbortController().signal,
    });
    row.bytesAfter = result.after.weightBytes;
    for (const { dtype, reason } of result.weights) {
      if (dtype === format) continue;
      const why = `${dtype}: ${reason ?? 'NO REASON'}`;
      row.kept[why] = (row.kept[why] ?? 0) + 1;
    }
    step = 'running';
    const ran = await run(runtime, job);
    Object.assign(row, ran);
    row.problem = problemOf(row, job.original) ?? '';
    if (row.problem === '') row.outcome = 'passed';
  } catch (error) {
    row.problem = `${step}: ${messageOf(error)}`.replace(/\s+/g, ' ').slice(0, 300);
    if (error instanceof SnugError && error.code === 'E_NOT_SUPPORTED' && step === 'quantizing')
      row.outcome = 'refused';
  }
  return row;
}
