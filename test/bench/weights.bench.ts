/**
 * `npm run bench:weights`: 4 bits of single weights without data, beside onnxruntime's own block quantizer on the same
 * matrices: signal-to-noise ratio of every matrix of the sample networks and of generated transformers with heavy tails,
 * at the same bytes and where scales of half the bytes pay for zero points or smaller blocks.
 *
 * SNUG_PYTHON names a Python with onnxruntime; without it, plain rounding by the same rule stands for it. BENCH_MODELS
 * names more .onnx files, separated by commas.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, expect, it } from 'vitest';
import type { Model } from '../../src/onnx/model.js';
import { readModel } from '../../src/onnx/read.js';
import {
  blockMatrixSize,
  dequantizeMatrix,
  quantizeMatrix,
  type BlockFormat,
} from '../../src/quantize/block-matrix.js';
import { readRows, type WeightMatrix } from '../../src/quantize/matrix.js';
import { matrixOf } from '../../src/quantize/plan.js';
import { prepared } from '../../src/quantize/weights.js';
import { bertBase, vitB16 } from './graphs/index.js';
import { makeRealistic } from './quantize/realistic.js';
import { hasPeers, python } from './quantize/tools.js';

const block = 32;
/** Kurtosis from which tails count as heavy: 3 is normal, 9 is Student's t with five degrees of freedom. */
const heavy = 6;

interface Weight {
  model: string;
  name: string;
  matrix: WeightMatrix;
  /** `[rows, columns]`. */
  values: Float32Array;
  kurtosis: number;
}

const plain = (zeroPoints: boolean): BlockFormat => ({ bits: 4, blockSize: block, zeroPoints });
const rules = { symmetric: plain(false), asymmetric: plain(true) } as const;

/** What is held against what: Snug's format, the rule it stands beside, which weights. */
const comparisons = [
  { format: rules.symmetric, against: 'symmetric', weights: 'all' },
  { format: rules.asymmetric, against: 'asymmetric', weights: 'all' },
  { format: { ...rules.asymmetric, halfScales: true }, against: 'symmetric', weights: 'heavy' },
  { format: { ...rules.symmetric, blockSize: 16, halfScales: true }, against: 'symmetric', weights: 'heavy' },
  { format: { ...rules.symmetric, blockSize: 16, halfScales: true }, against: 'asymmetric', weights: 'heavy' },
] as const;

const folder = mkdtempSync(path.join(process.env.SNUG_BENCH_DIR ?? tmpdir(), 'snug-weights-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function* models(): Generator<[string, Model]> {
  const shared = path.resolve('../shared/models');
  const names = existsSync(shared) ? ['digits-mlp', 'digits-resnet', 'digits-vit', 'kjv-gpt/model'] : [];
  const files = [
    ...names.map((name) => path.join(shared, `${name}.onnx`)),
    ...(process.env.BENCH_MODELS?.split(',') ?? []),
  ];
  for (const file of files)
    yield [path.basename(file) === 'model.onnx' ? 'kjv-gpt' : path.basename(file), readModel(file)];
  for (const [name, model] of [
    ['vit-b', vitB16({ layers: 1 })],
    ['bert-base', bertBase({ layers: 1 })],
  ] as const) {
    makeRealistic(model);
    yield [name, model];
  }
}

function weightsOf(name: string, model: Model): Weight[] {
  return prepared(model).sites.flatMap((site) => {
    const use = site.uses.find(({ role }) => role === 'matmul' || role === 'gemm');
    if (use === undefined) return [];
    const matrix = matrixOf(site, use);
    if (matrix.columns < block || matrix.rows * matrix.columns < 1024) return [];
    const values = readRows(matrix, 0, matrix.rows);
    const moment = (power: number): number => values.reduce((sum, value) => sum + value ** power, 0) / values.length;
    const kurtosis = moment(4) / moment(2) ** 2;
    return kurtosis > 0 ? [{ model: name, name: site.name, matrix, values, kurtosis }] : [];
  });
}

function decibels({ matrix, values }: Weight, format: BlockFormat): number {
  const back = dequantizeMatrix(quantizeMatrix(matrix, format));
  let [signal, noise] = [0, 0];
  values.forEach((value, i) => {
    signal += value ** 2;
    noise += (value - back[i]!) ** 2;
  });
  return 10 * Math.log10(signal / noise);
}

function bitsPerWeight({ rows, columns }: WeightMatrix, format: BlockFormat): number {
  const { codes, zeroPoints, scales } = blockMatrixSize(rows, columns, format);
  return (8 * (codes + zeroPoints + scales * (format.halfScales === true ? 2 : 4))) / (rows * columns);
}

type Rule = Record<keyof typeof rules, number>;

/** What onnxruntime's quantizer leaves of the weights of one model. */
function peers(weights: readonly Weight[]): Rule[] {
  if (!hasPeers()) {
    return weights.map((weight) => ({
      symmetric: decibels(weight, { ...rules.symmetric, nearest: true }),
      asymmetric: decibels(weight, { ...rules.asymmetric, nearest: true }),
    }));
  }
  const list = weights.map(({ matrix: { rows, columns }, values }, i) => {
    const file = `${i}.bin`;
    writeFileSync(path.join(folder, file), new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
    return { file, rows, columns };
  });
  writeFileSync(path.join(folder, 'weights.json'), JSON.stringify(list));
  const script = path.join(import.meta.dirname, 'quantize/ort-blocks.py');
  return JSON.parse(execFileSync(python, [script, folder, String(block)], { encoding: 'utf8' })) as Rule[];
}

const nameOf = ({ zeroPoints, blockSize, halfScales = false }: BlockFormat): string =>
  `${zeroPoints ? 'asymmetric' : 'symmetric'}, blocks of ${blockSize}${halfScales ? ', float16 scales' : ''}`;

it('keeps more of every weight than onnxruntime at the same bytes', () => {
  const gains = comparisons.map(() => [] as { gain: number; bits: number; ruleBits: number; weight: string }[]);
  for (const [name, model] of models()) {
    const weights = weightsOf(name, model);
    const theirs = peers(weights);
    weights.forEach((weight, i) => {
      comparisons.forEach(({ format, against, weights: which }, at) => {
        if (which === 'heavy' && weight.kurtosis < heavy) return;
        gains[at]!.push({
          gain: decibels(weight, format) - theirs[i]![against],
          bits: bitsPerWeight(weight.matrix, format),
          ruleBits: bitsPerWeight(weight.matrix, rules[against]),
          weight: `${weight.model} ${weight.name}`,
        });
      });
    });
  }
  console.log(
    hasPeers()
      ? "beside onnxruntime's quantizer"
      : "beside onnxruntime's rule (no Python with onnxruntime: SNUG_PYTHON)",
  );
  console.log('format | bits a weight | beside | its bits | weights | least gain dB | mean gain dB | least at');
  const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;
  const rows = comparisons.map(({ format, against, weights }, at) => {
    const all = gains[at]!.sort((a, b) => a.gain - b.gain);
    const least = all[0]!;
    const average = mean(all.map(({ gain }) => gain));
    const bits = [mean(all.map((one) => one.bits)), mean(all.map((one) => one.ruleBits))] as const;
    console.log(
      [
        ...[nameOf(format), bits[0].toFixed(3), against, bits[1].toFixed(3), `${all.length} ${weights}`],
        ...[least.gain.toFixed(3), average.toFixed(3), least.weight],
      ].join(' | '),
    );
    return { weights, against, symmetric: !format.zeroPoints, least: least.gain, average, bits };
  });
  for (const { least, bits } of rows) {
    expect(least).toBeGreaterThan(0);
    expect(bits[0]).toBeLessThan(bits[1] + 1e-9);
  }
  for (const { average } of rows.slice(0, 2)) expect(average).toBeGreaterThan(0.4);
  for (const { least } of rows.slice(2, 4)) expect(least).toBeGreaterThan(1);
});
