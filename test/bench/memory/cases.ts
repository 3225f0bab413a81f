import path from 'node:path';
import type { Dtype, Provider } from '../../../src/contract/types.js';
import { planningRanges } from '../../../src/fit/planning-ranges.js';
import type { Model } from '../../../src/onnx/model.js';
import { readModel } from '../../../src/onnx/read.js';
import { quantizableWeights, quantizeModel } from '../../../src/quantize/index.js';
import { graphs, unet } from '../graphs/index.js';

/** Models trained for trying Snug on. */
export const samples = path.resolve('../shared/models');

export interface Shape {
  batch: number;
  dims: Record<string, number>;
}

export interface BenchModel {
  name: string;
  build: () => Model;
  shapes: Shape[];
}

const batches = (...sizes: number[]): Shape[] => sizes.map((batch) => ({ batch, dims: {} }));
const text = (...sizes: [number, number, number?][]): Shape[] =>
  sizes.map(([batch, sequence, past]) => {
    const dims: Record<string, number> = past === undefined ? { sequence } : { sequence, past_sequence: past };
    return { batch, dims };
  });
const image = (...sizes: [number, number, number][]): Shape[] =>
  sizes.map(([batch, height, width]) => ({ batch, dims: { height, width } }));
const sample = (file: string) => () => readModel(path.join(samples, file));

/** The shared models and graphs of the size of well-known networks, at three shapes each. */
export const benchModels: BenchModel[] = [
  { name: 'digits-mlp', build: sample('digits-mlp.onnx'), shapes: batches(1, 32, 500) },
  { name: 'digits-resnet', build: sample('digits-resnet.onnx'), shapes: batches(1, 32, 200) },
  { name: 'digits-vit', build: sample('digits-vit.onnx'), shapes: batches(1, 32, 200) },
  { name: 'kjv-gpt', build: sample('kjv-gpt/model.onnx'), shapes: text([1, 128, 0], [4, 1, 64], [8, 100, 20]) },
  { name: 'resnet50', build: () => graphs.resnet50(), shapes: batches(1, 4, 8) },
  { name: 'mobilenetv2', build: () => graphs.mobilenetv2(), shapes: batches(1, 4, 16) },
  { name: 'unet', build: () => graphs.unet(), shapes: image([1, 128, 128], [1, 208, 160], [2, 192, 192]) },
  { name: 'vit-b', build: () => graphs['vit-b'](), shapes: batches(1, 3, 8) },
  { name: 'bert-base', build: () => graphs['bert-base'](), shapes: text([1, 128], [8, 64], [2, 384]) },
  { name: 'gpt2', build: () => graphs.gpt2(), shapes: text([1, 128, 0], [1, 1, 512], [3, 40, 100]) },
  {
    name: 'unet-resize',
    build: () => unet({ up: 'resize', scale: 0.5 }),
    shapes: image([1, 128, 128], [1, 208, 160], [2, 192, 192]),
  },
];

/** Formats that are benchmarked unless BENCH_DTYPES names others. */
export const benchDtypes: readonly Dtype[] = ['fp32', 'fp16', 'int8', 'int4'];

/**
 * The model in a number format, as Snug writes it. Half precision is written as for a GPU: Snug offers none on the
 * CPU, but such files are opened there.
 */
export function inFormat(model: Model, dtype: Dtype): Model {
  if (dtype === 'fp32') return model;
  const provider: Provider = dtype === 'fp16' ? 'webgpu' : 'cpu';
  const assignment = new Map(quantizableWeights(model, provider).map((weight) => [weight.name, dtype]));
  return quantizeModel(model, assignment, { provider, ranges: planningRanges(model) }).model;
}
