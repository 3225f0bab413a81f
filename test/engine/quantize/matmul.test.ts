import { describe, expect, it } from 'vitest';
import { floatAttribute, intAttribute, intsAttribute } from '../../../src/onnx/graph.js';
import { readFloat32 } from '../../../src/onnx/tensor.js';
import { DataType, type Graph, type Model, type Tensor } from '../../../src/onnx/model.js';
import { blockMatrixSize, dequantizeMatrix } from '../../../src/quantize/block-matrix.js';
import { quantizableWeights, quantizeModel } from '../../../src/quantize/index.js';
import type { Dtype, Provider } from '../../../src/contract/types.js';
import { buildGraph, buildModel, node, operators, runModel, weight } from './build.js';
import { gaussian, sqnr } from './numbers.js';

function multiply(x: Float32Array, rows: number, w: Float32Array, k: number, n: number): Float32Array {
  const y = new Float32Array(rows * n);
  for (let r = 0; r < rows; r++) {
    for (let c = 0; c < n; c++) {
      let sum = 0;
      for (let i = 0; i < k; i++) sum += x[r * k + i]! * w[c * k + i]!;
      y[r * n + c] = sum;
    }
  }
  return y;
}

/** The weight `[N, K]` that the MatMulNBits node of a model stands for. */
function decode(model: Model): { values: Float32Array; k: number; n: number } {
  const found = model.graph.nodes.find((candidate) => candidate.opType === 'MatMulNBits')!;
  const int = (name: string): number => {
    const attribute = found.attributes.get(name);
    return attribute?.type === 'int' ? attribute.value : 0;
  };
  const producers = new Map(model.graph.nodes.map((each) => [each.outputs[0], each.inputs[0]]));
  const tensor = (index: number): Tensor | undefined => {
    const name = found.inputs[index] ?? '';
    return model.graph.initializers.get(name) ?? model.graph.initializers.get(producers.get(name) ?? '');
  };
  const bits = int('bits') as 4 | 8;
  const format = { bits, blockSize: int('block_size'), zeroPoints: tensor(3) !== undefined };
  const [n, k] = [int('N'), int('K')];
  const codes = tensor(1)!.data.read();
  expect(codes.length).toBe(blockMatrixSize(n, k, format).codes);
  const values = dequantizeMatrix({
    format,
    rows: n,
    columns: k,
    codes,
    scales: readFloat32(tensor(2)!),
    zeroPoints: tensor(3)?.data.read() ?? null,
  });
  return { values, k, n };
}

function quantizeAll(
  model: Model,
  dtype: Dtype,
  provider: Provider = 'cpu',
  blockSize?: number,
): ReturnType<typeof quantizeModel> {
  const assignment = new Map(quantizableWeights(model, provider).map((info) => [info.name, dtype]));
  return quantizeModel(model, assignment, { provider, ...(blockSize === undefined ? {} : { blockSize }) });
}

/** Heavy tails in one direction, so that zero points pay. */
const skewed = (count: number, seed: number): Float32Array => gaussian(count, seed).map((v) => Math.exp(v) - 0.5);

describe('MatMul and Gemm as MatMulNBits on the CPU', () => {
  for (const [dtype, k, n, blockSize, skew] of [
    ['int4', 64, 48, undefined, false],
    ['int4', 83, 33, undefined, false],
    ['int4', 100, 7, 16, true],
    ['int4', 160, 40, 32, true],
    ['int8', 64, 48, undefined, false],
    ['int8', 83, 33, undefined, false],
    ['int8', 200, 16, 128, true],
  ] as const) {
    it(`decodes ${dtype} [${k}, ${n}]${blockSize ? ` blocks of ${blockSize}` : ''}${skew ? ' with zero points' : ''} exactly as this project does`, async () => {
      const values = skew ? skewed(k * n, k) : gaussian(k * n, k);
      const model = buildModel({
        inputs: { x: ['rows', k] },
        outputs: ['y'],
        nodes: [node('MatMul', ['x', 'w'], 'y')],
        weights: [weight('w', [k, n], values)],
      });
      const result = quantizeAll(model, dtype, 'cpu', blockSize);
      expect(operators(result.model)).toEqual(['MatMulNBits']);
      const decoded = decode(result.model);
      const quantized = result.model.graph.nodes.find(({ opType }) => opType === 'MatMulNBits')!;
      expect(quantized.inputs.length > 3).toBe(skew && dtype === 'int4');
      // Each unit vector picks one column of the weight; the CPU's int8 activations represent it exactly.
      const x = new Float32Array(k * k);
      for (let i = 0; i < k; i++) x[i * k + i] = 1;
      const { y } = await runModel(result.model, { x: { dims: [k, k], data: x } });
      const expected = multiply(x, k, decoded.values, k, n);
      for (let i = 0; i < expected.length; i++)
        expect(Math.abs(y![i]! - expected[i]!)).toBeLessThan(2e-6 * (1 + Math.abs(expected[i]!)));
      expect(result.weights[0]!.sqnrDb!).toBeGreaterThan(dtype === 'int4' ? 18 : 36);
      const transposed = Float32Array.from({ length: k * n }, (_, i) => values[(i % k) * n + Math.floor(i / k)]!);
      expect(sqnr(transposed, decoded.values)).toBeCloseTo(result.weights[0]!.sqnrDb!, -0.5);
    });
  }

  it('keeps what a Gemm computes: transB, transA, alpha, beta and its bias', async () => {
    const [k, n] = [64, 32];
    for (const [transA, transB, c] of [
      [0, 1, 'vector'],
      [1, 0, 'row'],
      [0, 0, 'matrix'],
      [0, 1, 'none'],
    ] as const) {
      const w = gaussian(k * n, 5);
      const cDims = { vector: [n], row: [1, n], matrix: [3, n], none: [] }[c];
      const model = buildModel({
        inputs: { x: transA === 1 ? [k, 3] : [3, k] },
        outputs: ['y'],
        nodes: [
          node('Gemm', c === 'none' ? ['x', 'w'] : ['x', 'w', 'c'], 'y', {
            transA: intAttribute(transA),
            transB: intAttribute(transB),
            alpha: floatAttribute(-0.5),
            beta: floatAttribute(c === 'vector' ? 1 : 2),
          }),
        ],
        weights: [
          weight('w', transB === 1 ? [n, k] : [k, n], w),
          ...(c === 'none'
            ? []
            : [
                weight(
                  'c',
                  cDims,
                  gaussian(
                    cDims.reduce((a, b) => a * b, 1),
                    9,
                  ),
                ),
              ]),
        ],
      });
      const x = gaussian(3 * k, 11);
      const feeds = { x: { dims: transA === 1 ? [k, 3] : [3, k], data: x } };
      const exact = await runModel(model, feeds);
      const result = quantizeAll(model, 'int8');
      expect(operators(result.model)).toContain('MatMulNBits');
      expect(operators(result.model)).not.toContain('Gemm');
      expect(sqnr(exact.y!, (await runModel(result.model, feeds)).y!)).toBeGreaterThan(36);
    }
  });

  it('takes a bias that follows a MatMul into the operator, and only then', async () => {
    const [k, n] = [64, 32];
    const build = (outputs: string[]): Model =>
      buildModel({
        inputs: { x: [2, 5, k] },
        outputs,
        nodes: [node('MatMul', ['x', 'w'], 'm'), node('Add', ['b', 'm'], 'y')],
        weights: [weight('w', [k, n], gaussian(k * n, 1)), weight('b', [n], gaussian(n, 2))],
      });
    const feeds = { x: { dims: [2, 5, k], data: gaussian(10 * k, 3) } };
    const exact = await runModel(build(['y']), feeds);
    const fused = quantizeAll(build(['y']), 'int8');
    expect(operators(fused.model)).toEqual(['MatMulNBits']);
    expect(sqnr(exact.y!, (await runModel(fused.model, feeds)).y!)).toBeGreaterThan(36);
    expect(operators(quantizeAll(build(['y', 'm']), 'int8').model)).toEqual(['Add', 'MatMulNBits']);
  });

  it('handles a table shared by Gather and a transposed MatMul, quantizing each form once', async () => {
    const [vocabulary, width] = [50, 64];
    const model = buildModel({
      inputs: { ids: ['n'] },
      inputTypes: { ids: 7 },
      outputs: ['logits'],
      nodes: [
        node('Gather', ['table', 'ids'], 'rows'),
        node('Transpose', ['table'], 'head', { perm: intsAttribute([1, 0]) }),
        node('MatMul', ['rows', 'head'], 'logits'),
      ],
      weights: [weight('table', [vocabulary, width], gaussian(vocabulary * width, 4))],
    });
    const feeds = { ids: { dims: [4], data: BigInt64Array.from([0n, 7n, 49n, 3n]) } };
    const exact = await runModel(model, feeds);
    for (const [dtype, least] of [
      ['int8', 35],
      ['int4', 15],
    ] as const) {
      const result = quantizeAll(model, dtype);
      expect(operators(result.model)).toEqual(['GatherBlockQuantized', 'MatMulNBits']);
      expect(result.model.graph.initializers.has('table')).toBe(false);
      expect(sqnr(exact.logits!, (await runModel(result.model, feeds)).logits!)).toBeGreaterThan(least);
      const stored = [...result.model.graph.initializers.values()].reduce((sum, t) => sum + t.data.byteLength, 0);
      expect(result.weights[0]!.bytesAfter).toBe(stored);
    }
  });

  it('works inside the bodies of If, also in float16, with a weight of the outer graph', async () => {
    const body = (name: string, weightName: string): Graph => ({
      ...buildGraph({
        inputs: {},
        outputs: [`${name}_y`],
        nodes: [node('MatMul', ['x', weightName], `${name}_y`)],
        weights: weightName === 'outer' ? [] : [weight(weightName, [64, 32], gaussian(64 * 32, 2))],
      }),
      name,
    });
    const model = buildModel({
      inputs: { x: [3, 64] },
      outputs: ['y', 'z'],
      nodes: [
        node('MatMul', ['x', 'top'], 'z'),
        node('ReduceMax', ['x'], 'most', { keepdims: intAttribute(0) }),
        node('Greater', ['most', 'zero'], 'positive'),
        node('If', ['positive'], 'y', {
          then_branch: { type: 'graph', value: body('then', 'outer') },
          else_branch: { type: 'graph', value: body('otherwise', 'inner') },
        }),
      ],
      weights: [
        weight('outer', [64, 32], gaussian(64 * 32, 1)),
        weight('top', [64, 32], gaussian(64 * 32, 3)),
        weight('zero', [], new Float32Array(1)),
      ],
    });
    for (const sign of [1, -1]) {
      const feeds = { x: { dims: [3, 64], data: gaussian(192, 5).map((value) => sign * Math.abs(value)) } };
      const exact = await runModel(model, feeds);
      const int8 = quantizeAll(model, 'int8');
      expect(int8.weights.map((row) => row.dtype)).toEqual(['int8', 'int8', 'int8']);
      expect(int8.model.graph.initializers.has('outer')).toBe(false);
      expect(sqnr(exact.y!, (await runModel(int8.model, feeds)).y!)).toBeGreaterThan(34);
      const half = quantizeAll(model, 'fp16', 'webgpu');
      expect(half.weights.map((row) => row.dtype)).toEqual(['fp16', 'fp16', 'fp16']);
      const got = await runModel(half.model, feeds);
      expect(sqnr(exact.y!, got.y!)).toBeGreaterThan(50);
      expect(sqnr(exact.z!, got.z!)).toBeGreaterThan(50);
    }
  });

  it('stores scales in two bytes where any runtime setting computes right with them, else in four', async () => {
    const [k, n] = [64, 48];
    const scaleTypes = async (factor: number, dtype: Dtype, provider: Provider): Promise<number[]> => {
      const values = gaussian(k * n, 3).map((value) => value * factor);
      const model = buildModel({
        inputs: { x: ['rows', k] },
        outputs: ['y'],
        nodes: [node('MatMul', ['x', 'w'], 'y')],
        weights: [weight('w', [k, n], values)],
      });
      const result = quantizeAll(model, dtype, provider);
      const feeds = { x: { dims: [4, k], data: gaussian(4 * k, 4) } };
      const [exact, fused, plain] = [
        await runModel(model, feeds),
        await runModel(result.model, feeds),
        await runModel(result.model, feeds, { level: 'disabled' }),
      ];
      expect(sqnr(exact.y!, fused.y!)).toBeGreaterThan(17);
      expect(sqnr(fused.y!, plain.y!)).toBeGreaterThan(60);
      const stored = [...result.model.graph.initializers.values()].filter(({ name }) => name.includes('scales'));
      return stored.map(({ dataType }) => dataType);
    };
    expect(await scaleTypes(0.02, 'int4', 'cpu')).toEqual([DataType.FLOAT16]);
    expect(await scaleTypes(0.02, 'int4', 'webgpu')).toEqual([DataType.FLOAT]);
    expect(await scaleTypes(0.02, 'int8', 'cpu')).toEqual([DataType.FLOAT]);
    // Beyond what float16 holds with its digits.
    expect(await scaleTypes(1e-6, 'int4', 'cpu')).toEqual([DataType.FLOAT]);
    expect(await scaleTypes(1e6, 'int4', 'cpu')).toEqual([DataType.FLOAT]);
  });
});
