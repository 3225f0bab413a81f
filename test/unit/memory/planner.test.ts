import { describe, expect, test } from 'vitest';
import { makeNode } from '../../../src/onnx/graph.js';
import type { Model, Node } from '../../../src/onnx/model.js';
import { inferShapes } from '../../../src/onnx/shape.js';
import { bufferRules } from '../../../src/memory/inplace.js';
import { executionOrder } from '../../../src/memory/order.js';
import { planBuffers, type MemoryPlan } from '../../../src/memory/plan.js';
import { graphOf, modelOf, value } from '../onnx/build.js';

describe('executionOrder', () => {
  const order = (nodes: Node[]) => executionOrder(nodes).map((index) => nodes[index]!.name);
  const unpack = (i: number) => makeNode('DequantizeLinear', [`q${i}`], [`w${i}`], {}, { name: `dq${i}` });
  const use = (i: number) => makeNode('Gemm', [`h${i}`, `w${i}`], [`h${i + 1}`], {}, { name: `gemm${i}` });

  test('unpacks all weights first when each is listed just before its user', () => {
    expect(order([unpack(0), use(0), unpack(1), use(1), unpack(2), use(2)])).toEqual([
      'dq2',
      'dq1',
      'dq0',
      'gemm0',
      'gemm1',
      'gemm2',
    ]);
  });

  test('unpacks each weight just in time when they are listed first', () => {
    expect(order([unpack(0), unpack(1), unpack(2), use(0), use(1), use(2)])).toEqual([
      'dq0',
      'gemm0',
      'dq1',
      'gemm1',
      'dq2',
      'gemm2',
    ]);
  });

  test('a chain of many thousand nodes does not overflow', () => {
    const nodes = Array.from({ length: 20_000 }, (_, i) => makeNode('Relu', [`x${i}`], [`x${i + 1}`]));
    expect(executionOrder(nodes)).toHaveLength(20_000);
  });
});

describe('planBuffers', () => {
  function plan(nodes: Node[], batch: string | null = 'batch'): MemoryPlan {
    const model: Model = modelOf(
      graphOf({ nodes, inputs: [value('x', [batch, 8])], outputs: [value('y', [batch, 8])] }),
    );
    return planBuffers({
      nodes,
      graphInputs: new Set(['x']),
      graphOutputs: new Set(['y']),
      initializers: new Set(),
      shapes: inferShapes(model, { batch: 4, 'x.0': 4 }),
      rules: bufferRules.cpu,
    });
  }
  const chain = (...operators: string[]) =>
    operators.map((operator, i) =>
      makeNode(operator, [i === 0 ? 'x' : `h${i}`], [i === operators.length - 1 ? 'y' : `h${i + 1}`]),
    );

  test('activations overwrite their input, but never the input of the model', () => {
    const { buffers } = plan(chain('Relu', 'Sigmoid', 'Tanh', 'Erf'));
    expect([...buffers]).toEqual([
      ['h1', 'h1'],
      ['h2', 'h1'],
      ['h3', 'h1'],
      ['y', 'y'],
    ]);
  });

  test('a value with a second reader is not overwritten', () => {
    const nodes = [...chain('Erf', 'Relu', 'Erf'), makeNode('Neg', ['h1'], ['side'])];
    expect(plan(nodes).buffers.get('h2')).toBe('h2');
  });

  test('a dead buffer of the same named size is used again', () => {
    const { buffers, steps } = plan(chain('Erf', 'Neg', 'Erf', 'Neg'));
    expect(buffers.get('h3')).toBe('h1');
    expect(steps.map((step) => step.frees)).toEqual([[], [], ['h2'], ['h1']]);
  });

  test('without a name nothing can be told to be equal, so nothing is used again', () => {
    const { buffers } = plan(chain('Erf', 'Neg', 'Erf', 'Neg'), null);
    expect([...new Set(buffers.values())]).toEqual(['h1', 'h2', 'h3', 'y']);
  });

  test('outputs of the model keep their own buffer and are never freed', () => {
    const { steps } = plan(chain('Erf', 'Relu'));
    expect(steps[1]?.allocates).toEqual([{ buffer: 'y', kind: 'graph-output' }]);
    expect(steps.flatMap((step) => step.frees)).not.toContain('y');
  });
});
