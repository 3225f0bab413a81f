import { describe, expect, test } from 'vitest';
import { makeNode } from '../../../src/onnx/graph.js';
import type { Model } from '../../../src/onnx/model.js';
import { estimateMemory, prepareEstimate } from '../../../src/memory/estimate.js';
import { computedData } from '../../../src/onnx/tensor.js';
import { graphOf, modelOf, value } from '../onnx/build.js';

/** x → (MatMul, Relu) × n → y; the weights' bytes must never be asked for. */
function perceptron(widths: number[]): Model {
  const layers = widths.slice(1);
  return modelOf(
    graphOf({
      nodes: layers.flatMap((_, i) => [
        makeNode('MatMul', [i === 0 ? 'x' : `r${i}`, `w${i}`], [`m${i}`], {}, { name: `mul${i}` }),
        makeNode('Relu', [`m${i}`], [i === layers.length - 1 ? 'y' : `r${i + 1}`], {}, { name: `relu${i}` }),
      ]),
      initializers: layers.map((columns, i) => ({
        name: `w${i}`,
        dataType: 1,
        dims: [widths[i]!, columns],
        data: computedData(widths[i]! * columns * 4, () => expect.unreachable('weights must stay on disk')),
      })),
      inputs: [value('x', ['batch', widths[0]!])],
      outputs: [value('y', ['batch', widths.at(-1)!])],
    }),
  );
}

const cpu = { provider: 'cpu', dims: {} } as const;

describe('estimateMemory', () => {
  test('parts add up to the peak in every phase and on every provider', () => {
    const prepared = prepareEstimate(perceptron([256, 512, 512, 16]));
    for (const provider of ['cpu', 'cuda', 'webgpu', 'dml', 'coreml'] as const) {
      const estimate = prepared.estimate({ provider, batch: 16, dims: {} });
      for (const phase of [estimate.load, estimate.cold, estimate.warm]) {
        const sum = Object.values(phase.parts).reduce((total, bytes) => total + bytes, 0);
        expect(sum).toBe(phase.peakBytes);
        for (const bytes of Object.values(phase.parts)) expect(bytes).toBeGreaterThanOrEqual(0);
      }
      expect(estimate.peakBytes).toBe(
        Math.max(estimate.load.peakBytes, estimate.cold.peakBytes, estimate.warm.peakBytes),
      );
      expect(estimate.lowBytes).toBeLessThanOrEqual(estimate.peakBytes);
      expect(estimate.highBytes).toBeGreaterThanOrEqual(estimate.peakBytes);
    }
  });

  test('weights of products are packed to a multiple of 16 columns', () => {
    const { load } = estimateMemory(perceptron([256, 500, 10]), { ...cpu, batch: 1 });
    expect(load.parts.weightsBytes).toBe((256 * 512 + 500 * 16) * 4);
  });

  test('a larger batch never needs less', () => {
    const prepared = prepareEstimate(perceptron([64, 256, 64]));
    const peaks = [1, 2, 4, 8, 16, 32, 64, 128].map((batch) => prepared.estimate({ ...cpu, batch }).peakBytes);
    expect([...peaks].sort((a, b) => a - b)).toEqual(peaks);
  });

  test('the memory pattern adds a block to what the first run left', () => {
    const prepared = prepareEstimate(perceptron([512, 2048, 2048, 512]));
    const on = prepared.estimate({ ...cpu, batch: 64, levers: { memoryPattern: true } });
    const off = prepared.estimate({ ...cpu, batch: 64, levers: { memoryPattern: false } });
    expect(on.cold).toEqual(off.cold);
    expect(on.warm.peakBytes).toBeGreaterThanOrEqual(off.warm.peakBytes);
  });

  test('what it does not know makes the interval wide and is named', () => {
    const model = perceptron([8, 8]);
    model.graph.nodes.push(makeNode('Mystery', ['y'], ['z'], {}, { name: 'odd', domain: 'custom' }));
    const estimate = estimateMemory(model, { ...cpu, batch: 1 });
    expect(estimate.unknown).toEqual([{ name: 'z', reason: 'no shape rule for the operator Mystery' }]);
    expect(estimate.highBytes).toBeGreaterThan(estimate.peakBytes * 2);
  });

  test('says which tensor is too large for a WebGPU buffer', () => {
    const model = perceptron([8192, 16384]);
    expect(estimateMemory(model, { ...cpu, batch: 1 }).limits).toEqual([]);
    const { limits } = estimateMemory(model, { provider: 'webgpu', batch: 1, dims: {} });
    expect(limits).toHaveLength(1);
    expect(limits[0]).toContain('"w0" needs 536870912 bytes');
  });

  test('a long timeline is thinned without hiding the peak', () => {
    const model = perceptron([...Array<number>(500).fill(16), 4096, ...Array<number>(500).fill(16)]);
    const { timeline } = estimateMemory(model, { ...cpu, batch: 256, levers: { memoryPattern: false } });
    expect(timeline.length).toBeLessThanOrEqual(400);
    expect(timeline.length).toBeGreaterThan(200);
    const highest = timeline.reduce((a, b) => (b.liveBytes > a.liveBytes ? b : a));
    expect(['mul499', 'relu499', 'mul500']).toContain(highest.node);
  });

  test('an impossible size is an error with a code', () => {
    expect(() => estimateMemory(perceptron([8, 8]), { ...cpu, batch: -3 })).toThrowError(
      expect.objectContaining({ code: 'E_DIMENSION' }) as Error,
    );
  });
});
