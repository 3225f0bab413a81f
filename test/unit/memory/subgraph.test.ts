import { describe, expect, test } from 'vitest';
import { estimateMemory } from '../../../src/memory/estimate.js';
import { executionOrder, valuesRead } from '../../../src/memory/order.js';
import { lowerModel } from '../../../src/memory/rewrite/lower.js';
import { makeNode } from '../../../src/onnx/graph.js';
import { DataType, type Graph, type Model, type Node } from '../../../src/onnx/model.js';
import { float32Tensor, int64Tensor, rawTensor } from '../../../src/onnx/tensor.js';
import { graphOf, modelOf, value } from '../onnx/build.js';

const width = 64;
const weight = (name: string) => float32Tensor(name, [width, width], new Float32Array(width * width));
const body = (graph: Graph) => ({ type: 'graph' as const, value: graph });
const weightBytes = width * width * 4;

/** x → If (c) over `then`, or Relu. */
function choice(then: Node[], inside: string[] = []): Model {
  const branch = graphOf({ nodes: then, outputs: [value('t', null)], initializers: inside.map(weight) });
  const other = graphOf({ nodes: [makeNode('Relu', ['x0'], ['e'])], outputs: [value('e', null)] });
  return modelOf(
    graphOf({
      nodes: [
        makeNode('Relu', ['x'], ['x0']),
        makeNode('If', ['c'], ['y'], { then_branch: body(branch), else_branch: body(other) }),
      ],
      inputs: [value('x', ['batch', width]), value('c', [], DataType.BOOL)],
      initializers: [weight('w')],
      outputs: [value('y', null)],
    }),
  );
}

const weightsOf = (model: Model, batch = 8) => {
  const estimate = estimateMemory(model, { provider: 'cpu', batch, dims: {} });
  return { ...estimate, weights: estimate.cold.parts.weightsBytes };
};

describe('weights used in bodies only', () => {
  test('stay in the graph the runtime executes', () => {
    expect(lowerModel(choice([makeNode('MatMul', ['x0', 'w'], ['t'])]), 'cpu').initializers.has('w')).toBe(true);
  });

  test('one that a body captures counts as it is held: packed by a product, as it is by a sum', () => {
    expect(weightsOf(choice([makeNode('MatMul', ['x0', 'w'], ['t'])])).weights).toBe(weightBytes);
    expect(weightsOf(choice([makeNode('Add', ['x0', 'w'], ['t'])]), width).weights).toBe(weightBytes);
  });

  test("one of the body's own counts as well", () => {
    const nodes = [makeNode('MatMul', ['x0', 'w'], ['a']), makeNode('MatMul', ['a', 'own'], ['t'])];
    expect(weightsOf(choice(nodes, ['own'])).weights).toBe(2 * weightBytes);
  });

  test('one that nobody uses does not', () => {
    expect(weightsOf(choice([makeNode('Tanh', ['x0'], ['t'])])).weights).toBe(0);
  });
});

describe('what a body captures', () => {
  const node = makeNode('If', ['c'], ['y'], {
    then_branch: body(graphOf({ nodes: [makeNode('Neg', ['late'], ['t'])], outputs: [value('t')] })),
  });

  test('is read by the node that has the body', () => {
    expect(valuesRead(node)).toEqual(['c', 'late']);
    expect(valuesRead(makeNode('Add', ['a', 'b'], ['y']))).toEqual(['a', 'b']);
  });

  test('is made before that node runs', () => {
    const nodes = [makeNode('Relu', ['x'], ['late']), makeNode('Not', ['b'], ['c']), node];
    expect(executionOrder(nodes).at(-1)).toBe(2);
  });

  test('keeps its buffer until that node is done', () => {
    const model = choice([makeNode('Add', ['x0', 'x0'], ['t'])]);
    const { cold } = weightsOf(model, 16 * 1024);
    // x0 and y at once.
    expect(cold.peakBytes).toBeGreaterThanOrEqual(2 * 16 * 1024 * width * 4);
  });
});

describe('loops', () => {
  function loop(rounds: number): Model {
    const inner = graphOf({
      nodes: [
        makeNode('Identity', ['go'], ['on']),
        makeNode('Tanh', ['h'], ['next']),
        makeNode('Neg', ['next'], ['each']),
      ],
      inputs: [value('i', [], DataType.INT64), value('go', [], DataType.BOOL), value('h', null)],
      outputs: [value('on', null, DataType.BOOL), value('next', null), value('each', null)],
    });
    return modelOf(
      graphOf({
        nodes: [makeNode('Loop', ['most', 'yes', 'x'], ['last', 'all'], { body: body(inner) })],
        inputs: [value('x', ['batch', width])],
        initializers: [int64Tensor('most', [], [rounds]), rawTensor('yes', DataType.BOOL, [], Uint8Array.of(1))],
        outputs: [value('last', null), value('all', null)],
      }),
    );
  }

  test('hold every stacked piece beside the stack they are copied into', () => {
    const batch = 4096;
    const unit = batch * width * 4;
    const peak = (rounds: number) => weightsOf(loop(rounds), batch).cold.peakBytes;
    expect(peak(20)).toBeGreaterThanOrEqual(2 * 20 * unit);
    expect(peak(40) / peak(20)).toBeGreaterThan(1.5);
  });

  test('of no rounds at all take next to nothing', () => {
    expect(weightsOf(loop(0)).cold.peakBytes).toBeLessThan(100_000);
  });
});
