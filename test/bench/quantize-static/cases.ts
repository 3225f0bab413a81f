import { existsSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { strToU8, zipSync } from 'fflate';
import { writeModel } from '../../../src/onnx/write.js';
import { graphs, type GraphName } from '../graphs/index.js';

/** One model with samples to calibrate on and others to judge by. */
export interface StaticCase {
  name: string;
  model: string;
  calibration: string;
  heldOut: string;
  dims: Record<string, number>;
  kind: 'conv' | 'transformer';
  /** Labels of `heldOut`, for accuracy. */
  labels?: string;
}

const models = path.resolve('../shared/models');
const digits = (name: string, kind: StaticCase['kind']): StaticCase => ({
  name,
  model: path.join(models, `${name}.onnx`),
  calibration: path.join(models, 'digits-calibration.npy'),
  heldOut: path.join(models, 'digits-test.npy'),
  labels: path.join(models, 'digits-test-labels.npy'),
  dims: {},
  kind,
});

/** Deterministic uniform numbers in 0…1. */
function uniform(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return (state + 0.5) / 2 ** 32;
  };
}

function npy(descr: '<f4' | '<i8', dims: readonly number[], data: Float32Array | BigInt64Array): Uint8Array {
  const text = `{'descr': '${descr}', 'fortran_order': False, 'shape': (${dims.join(', ')}), }`;
  const header = strToU8(`..${text.padEnd(Math.ceil((text.length + 11) / 64) * 64 - 11)}\n`, true);
  new DataView(header.buffer, header.byteOffset).setUint16(0, header.length - 2, true);
  const bytes = new Uint8Array(data.buffer);
  return Buffer.concat([strToU8('\x93NUMPY\x01\x00', true), header, bytes]);
}

/** Smooth images: a few random waves for each channel, plus noise, at the scale vision models are fed. */
function images(count: number, side: number, seed: number): Uint8Array {
  const random = uniform(seed);
  const data = new Float32Array(count * 3 * side * side);
  for (let plane = 0; plane < count * 3; plane++) {
    const waves = Array.from({ length: 4 }, () => [random() * 0.3, random() * 0.3, random() * 6, random()]);
    for (let y = 0; y < side; y++) {
      for (let x = 0; x < side; x++) {
        let value = (random() - 0.5) * 0.8;
        for (const [fx, fy, phase, size] of waves) value += size! * Math.sin(fx! * x + fy! * y + phase!);
        data[(plane * side + y) * side + x] = value;
      }
    }
  }
  return npy('<f4', [count, 3, side, side], data);
}

function tokens(count: number, length: number, seed: number): Uint8Array {
  const random = uniform(seed);
  const list = (make: (i: number) => number): Uint8Array =>
    npy(
      '<i8',
      [count, length],
      BigInt64Array.from({ length: count * length }, (_, i) => BigInt(make(i))),
    );
  const entries = {
    'input_ids.npy': list(() => Math.floor(random() ** 2 * 30000)),
    'attention_mask.npy': list(() => 1),
    'token_type_ids.npy': list((i) => (i % length < length / 2 ? 0 : 1)),
  };
  return zipSync(entries, { level: 0 });
}

function generated(folder: string, graph: GraphName, kind: StaticCase['kind']): StaticCase {
  const file = (suffix: string): string => path.join(folder, `${graph}${suffix}`);
  const model = file('.onnx');
  if (!existsSync(model)) writeModel(graphs[graph](), model);
  const text = graph === 'bert-base';
  const write = (name: string, count: number, seed: number): string => {
    if (!existsSync(name)) writeFileSync(name, text ? tokens(count, 64, seed) : images(count, 224, seed));
    return name;
  };
  const extension = text ? 'npz' : 'npy';
  return {
    name: graph,
    model,
    calibration: write(file(`-calibration.${extension}`), 16, 1),
    heldOut: write(file(`-held-out.${extension}`), 8, 2),
    dims: text ? { sequence: 64 } : {},
    kind,
  };
}

/** The cases by name; models are written when theirs is asked for. */
export const cases: Record<string, (folder: string) => StaticCase> = {
  'digits-mlp': () => digits('digits-mlp', 'conv'),
  'digits-resnet': () => digits('digits-resnet', 'conv'),
  'digits-vit': () => digits('digits-vit', 'transformer'),
  'kjv-gpt': () => ({
    name: 'kjv-gpt',
    model: path.join(models, 'kjv-gpt', 'model.onnx'),
    calibration: path.join(models, 'kjv-calibration.txt'),
    heldOut: path.join(models, 'kjv-test.txt'),
    dims: { sequence: 128 },
    kind: 'transformer',
  }),
  mobilenetv2: (folder) => generated(folder, 'mobilenetv2', 'conv'),
  resnet50: (folder) => generated(folder, 'resnet50', 'conv'),
  'bert-base': (folder) => generated(folder, 'bert-base', 'transformer'),
  'vit-b': (folder) => generated(folder, 'vit-b', 'transformer'),
};
