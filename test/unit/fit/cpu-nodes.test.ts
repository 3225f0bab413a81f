import { describe, expect, it } from 'vitest';
import { Analysis } from '../../../src/fit/analysis.js';
import { cpuNodes } from '../../../src/fit/cpu-nodes.js';
import { Planner } from '../../../src/fit/solve.js';
import { makeNode } from '../../../src/onnx/graph.js';
import { DataType } from '../../../src/onnx/model.js';
import { float32Tensor } from '../../../src/onnx/tensor.js';
import { graphOf, modelOf, value } from '../onnx/build.js';

const table = (name: string, rows: number) =>
  float32Tensor(
    name,
    [rows, 64],
    Float32Array.from({ length: rows * 64 }, (_, i) => Math.sin(i)),
  );

/** Two tables of rows, the larger one used twice as wide, and a matrix. */
function model() {
  const nodes = [
    makeNode('Gather', ['large', 'ids'], ['a'], undefined, { name: 'large_rows' }),
    makeNode('Gather', ['small', 'ids'], ['b'], undefined, { name: 'small_rows' }),
    makeNode('Gather', ['tied', 'ids'], ['c'], undefined, { name: 'tied_rows' }),
    makeNode('Add', ['a', 'b'], ['d'], undefined, { name: 'add' }),
    makeNode('Add', ['d', 'c'], ['e'], undefined, { name: 'add2' }),
    makeNode('Transpose', ['tied'], ['turned'], undefined, { name: 'turn' }),
    makeNode('MatMul', ['e', 'turned'], ['y'], undefined, { name: 'product' }),
  ];
  return modelOf(
    graphOf({
      nodes,
      inputs: [value('ids', ['batch', 8], DataType.INT64)],
      outputs: [value('y', ['batch', 8, 512])],
      initializers: [table('large', 40_000), table('small', 4000), table('tied', 512)],
    }),
  );
}

const pins = { dtype: 'fp32', pruneRatio: 0, batch: 1 } as const;

describe('nodes for the CPU', () => {
  it('most weight bytes per byte copied first; a weight the GPU needs anyway saves nothing', () => {
    const nodes = cpuNodes(model(), 2, {});
    expect(nodes.map(({ name }) => name)).toEqual(['large_rows', 'small_rows']);
    // The ids go in, the rows come out.
    expect(nodes[0]).toEqual({
      name: 'large_rows',
      savedBytes: 40_000 * 64 * 4,
      copiedBytes: 2 * 8 * 8 + 2 * 8 * 64 * 4,
    });
  });

  it('webgpu leaves as few as it takes to the CPU when the whole does not fit', () => {
    const planner = new Planner(new Analysis(model(), 'webgpu', false));
    const whole = planner.propose(Number.MAX_SAFE_INTEGER, pins, new Set());
    expect(whole?.plan.session.cpuNodes).toBeUndefined();
    const spilled = planner.propose((whole?.estimate.peakBytes ?? 0) - 5e6, pins, new Set());
    expect(spilled?.plan.session.cpuNodes).toEqual(['large_rows']);
    expect(spilled?.estimate.peakBytes).toBeLessThanOrEqual((whole?.estimate.peakBytes ?? 0) - 5e6);
    expect(planner.propose(1000, pins, new Set())).toBeNull();
  });

  it('no other provider can be told', () => {
    const planner = new Planner(new Analysis(model(), 'cpu', false));
    expect(planner.propose(5e6, pins, new Set())).toBeNull();
  });
});
