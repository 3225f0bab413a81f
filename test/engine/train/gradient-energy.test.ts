import * as ort from 'onnxruntime-node';
import { describe, expect, it } from 'vitest';
import { DataType } from '../../../src/onnx/model.js';
import { serializeModel } from '../../../src/onnx/write.js';
import { buildEnergyGraph } from '../../../src/train/gradient-energy.js';
import { buildModel, node, weight } from '../quantize/build.js';
import { gaussian } from '../quantize/numbers.js';

const [samples, inner, outer] = [2, 64, 3];

/** y = relu(x · W) · v with W in blocks of 32 along its first axis. */
const hidden = gaussian(inner * outer, 1).map((value, i) => (i < 32 * outer ? value : 5 * value));
const last = gaussian(outer * 2, 2);
const model = buildModel({
  inputs: { x: ['n', inner] },
  outputs: ['y', 'z'],
  nodes: [node('MatMul', ['x', 'W'], 'h'), node('Relu', ['h'], 'z'), node('MatMul', ['z', 'v'], 'y')],
  weights: [weight('W', [inner, outer], hidden), weight('v', [outer, 2], last)],
});

/** The energies for one choice of signs. */
async function energies(signs: (at: number) => number, x: Float32Array): Promise<{ all: number[]; signal: number }> {
  const graph = buildEnergyGraph(model, {
    inputDims: { x: ['batch', inner] },
    outputs: ['y'],
    weights: new Map([
      ['W', 0],
      ['v', 0],
    ]),
  });
  expect(graph.weights).toEqual(['W', 'v']);
  const session = await ort.InferenceSession.create(serializeModel(graph.model));
  const [input] = graph.signs;
  const values = Float32Array.from({ length: samples * 2 }, (_, at) => signs(at));
  const result = await session.run({
    x: new ort.Tensor('float32', x, [samples, inner]),
    [input!.name]: new ort.Tensor('float32', values, [samples, 2]),
  });
  const numbers = (name: string): number[] => Array.from(result[name]!.data as Float32Array);
  const found = { all: numbers(graph.energies), signal: numbers(graph.signal)[0]! };
  await session.release();
  return found;
}

describe('buildEnergyGraph', () => {
  it('gives, over all signs, what independent errors of the size of their blocks add to the squared error', async () => {
    const x = gaussian(samples * inner, 3);
    const patterns = 2 ** (samples * 2);
    const mean = [0, 0];
    let signal = 0;
    for (let pattern = 0; pattern < patterns; pattern++) {
      const found = await energies((at) => ((pattern >> at) & 1 ? 1 : -1), x);
      mean.forEach((_, at) => (mean[at]! += found.all[at]! / patterns));
      signal = found.signal;
    }
    // The same by hand: y = Σ relu(x W) v, so ∂y_k/∂W_ij = [h_j > 0] x_i v_jk and ∂y_k/∂v_jk = relu(h_j).
    const expected = [0, 0];
    let power = 0;
    const largest = (j: number, block: number): number =>
      Math.max(...Array.from({ length: 32 }, (_, i) => Math.abs(hidden[(block * 32 + i) * outer + j]!)));
    const largestOfV = (k: number): number => Math.max(...[0, 1, 2].map((j) => Math.abs(last[j * 2 + k]!)));
    for (let sample = 0; sample < samples; sample++) {
      const h = Array.from({ length: outer }, (_, j) => {
        let sum = 0;
        for (let i = 0; i < inner; i++) sum += x[sample * inner + i]! * hidden[i * outer + j]!;
        return Math.max(0, sum);
      });
      for (let k = 0; k < 2; k++) {
        power += h.reduce((sum, value, j) => sum + value * last[j * 2 + k]!, 0) ** 2;
        for (let j = 0; j < outer; j++) {
          expected[1]! += (h[j]! * largestOfV(k)) ** 2;
          for (let i = 0; i < inner && h[j]! > 0; i++) {
            expected[0]! += (x[sample * inner + i]! * last[j * 2 + k]! * largest(j, i >> 5)) ** 2;
          }
        }
      }
    }
    const total = (values: ArrayLike<number>): number => Array.from(values).reduce((sum, v) => sum + v * v, 0);
    const errorsOfW = [0, 1, 2].reduce((sum, j) => sum + 32 * (largest(j, 0) ** 2 + largest(j, 1) ** 2), 0);
    const errorsOfV = 3 * (largestOfV(0) ** 2 + largestOfV(1) ** 2);
    expect(signal / power).toBeCloseTo(1, 4);
    expect(mean[0]! / ((expected[0]! * total(hidden)) / errorsOfW)).toBeCloseTo(1, 4);
    expect(mean[1]! / ((expected[1]! * total(last)) / errorsOfV)).toBeCloseTo(1, 4);
  });

  it('follows a table through the rows that are read, without a gradient of its size', async () => {
    const [rows, width] = [5, 64];
    const table = gaussian(rows * width, 4).map((value, i) => (i < 2 * width ? value : 3 * value));
    const looked = buildModel({
      inputs: { ids: ['n', rows] },
      inputTypes: { ids: DataType.INT64 },
      outputs: ['y'],
      nodes: [node('Gather', ['T', 'ids'], 'rows'), node('MatMul', ['rows', 'v'], 'y')],
      weights: [weight('T', [rows, width], table), weight('v', [width, 2], gaussian(width * 2, 5))],
    });
    const v = gaussian(width * 2, 5);
    const graph = buildEnergyGraph(looked, {
      inputDims: { ids: ['batch', rows] },
      outputs: ['y'],
      weights: new Map([['T', 1]]),
    });
    expect(graph.weights).toEqual(['T']);
    expect(graph.model.graph.nodes.filter(({ opType }) => opType.startsWith('Scatter'))).toEqual([]);
    const session = await ort.InferenceSession.create(serializeModel(graph.model));
    const signs = Float32Array.from({ length: rows * 2 }, (_, at) => (at % 3 === 0 ? -1 : 1));
    const order = [3, 0, 4, 1, 2];
    const result = await session.run({
      ids: new ort.Tensor('int64', BigInt64Array.from(order.map(BigInt)), [1, rows]),
      [graph.signs[0]!.name]: new ort.Tensor('float32', signs, [1, rows, 2]),
    });
    await session.release();
    let [energy, errors, power] = [0, 0, 0];
    order.forEach((row, position) => {
      for (let at = 0; at < width; at++) {
        const start = row * width + (at & ~31);
        const largest = Math.max(...Array.from(table.subarray(start, start + 32), Math.abs));
        const gradient = signs[position * 2]! * v[at * 2]! + signs[position * 2 + 1]! * v[at * 2 + 1]!;
        energy += (gradient * largest) ** 2;
        errors += largest ** 2;
        power += table[row * width + at]! ** 2;
      }
    });
    const [found] = result[graph.energies]!.data as Float32Array;
    expect(found! / ((energy * power) / errors)).toBeCloseTo(1, 4);
  });

  it('says which operator it cannot go through', () => {
    const stuck = buildModel({
      inputs: { x: ['n', inner] },
      outputs: ['y'],
      nodes: [node('MatMul', ['x', 'W'], 'h'), node('Hardmax', ['h'], 'y')],
      weights: [weight('W', [inner, outer], hidden)],
    });
    const request = { inputDims: { x: ['batch', inner] as const }, outputs: ['y'], weights: new Map([['W', 0]]) };
    expect(() => buildEnergyGraph(stuck, request)).toThrow(/Hardmax/);
  });
});
