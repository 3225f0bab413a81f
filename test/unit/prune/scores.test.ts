import { describe, expect, it } from 'vitest';
import type { Tensor } from '../../../src/onnx/model.js';
import { float32Tensor } from '../../../src/onnx/tensor.js';
import type { AxisGraph } from '../../../src/prune/axis-graph.js';
import type { PruneMember } from '../../../src/prune/classes.js';
import { sampledUnitEnergies, unitEnergies } from '../../../src/prune/scores.js';
import { randomMatrix } from './matrices.js';

describe('sampled energies of units', () => {
  // Both layouts of a large weight: units along the first axis, and along the last.
  it.each([0, 1])('are close to those of the whole weight, and read little of it (axis %i)', (axis) => {
    const dims = axis === 0 ? [256, 4096] : [4096, 256];
    const scale = (at: number): number => 1 + (axis === 0 ? Math.floor(at / 4096) : at % 256) / 32;
    const values = Float32Array.from(randomMatrix(dims[0]!, dims[1]!, 3), (value, at) => value * scale(at));
    const whole = float32Tensor('w', dims, values);
    let bytes = 0;
    const counting: Tensor = {
      ...whole,
      data: {
        ...whole.data,
        readRange: (offset, length) => {
          bytes += length;
          return whole.data.readRange(offset, length);
        },
      },
    };
    const graph = { constant: () => counting } as unknown as AxisGraph;
    const member: PruneMember = {
      initializer: 'w',
      axis,
      role: 'producer',
      segments: [{ offset: 0, outer: 1, outerStride: 256, inner: 1 }],
    };
    const exact = unitEnergies(graph, member, 256);
    const sampled = sampledUnitEnergies(graph, member, 256);
    expect(bytes).toBeLessThan(whole.data.byteLength / 4);
    expect(bytes).toBeGreaterThan(0);
    exact.forEach((energy, unit) => expect(Math.abs(sampled[unit]! / energy - 1)).toBeLessThan(0.6));
    const sum = (energies: Float64Array): number => energies.reduce((a, b) => a + b, 0);
    expect(sum(sampled) / sum(exact)).toBeCloseTo(1, 1);
  });
});
