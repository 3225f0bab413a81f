import { describe, expect, it } from 'vitest';
import { estimateMemory } from '../../../src/memory/estimate.js';
import { probes } from '../../../src/app/accuracy/probes.js';
import { chain } from '../onnx/build.js';
import { float32Tensor } from '../../../src/onnx/tensor.js';

describe('what is in memory at each point of the timeline', () => {
  it.each(probes().map((probe) => [probe.name, probe.model] as const))('adds up: %s', (_name, model) => {
    const options = { provider: 'cpu' as const, batch: 1, dims: {}, levers: { memoryPattern: true }, threads: 1 };
    const { timeline, lifetimes = [], warm } = estimateMemory(model, options);
    expect(lifetimes.length).toBeGreaterThan(0);
    timeline.forEach((point, index) => {
      const values = lifetimes.filter(({ from, to }) => from <= index && index <= to);
      const sum = values.reduce((total, { bytes }) => total + bytes, 0);
      // These graphs have few values, so every byte above the weights has a name.
      expect(point.liveBytes - warm.parts.weightsBytes).toBe(sum);
    });
  });

  it('stays within the points that are drawn, however long the graph is', () => {
    const weights = Array.from({ length: 1000 }, (_, i) => float32Tensor(`w${i}`, [4, 4], new Float32Array(16)));
    const { timeline, lifetimes = [] } = estimateMemory(chain(weights), { provider: 'cpu', batch: 64, dims: {} });
    expect(timeline.length).toBeLessThanOrEqual(400);
    expect(lifetimes.length).toBeLessThanOrEqual(64);
    for (const { from, to } of lifetimes) {
      expect(from).toBeGreaterThanOrEqual(0);
      expect(to).toBeGreaterThanOrEqual(from);
      expect(to).toBeLessThan(timeline.length);
    }
  });
});
