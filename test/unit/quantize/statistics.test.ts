import { describe, expect, it } from 'vitest';
import { executionOrder } from '../../../src/memory/order.js';
import { makeNode } from '../../../src/onnx/graph.js';
import { addStatistics } from '../../../src/quantize/statistics.js';
import { matMulChain } from '../../cli/models.js';

describe('addStatistics', () => {
  it('has every activation looked at before the one after the next is made, so that none is kept', () => {
    const model = matMulChain(6, 16);
    const { graph } = model;
    // What came first is read again at the end, and the network has an answer besides what is looked at.
    graph.nodes.push(makeNode('Add', ['y', 'x'], ['answer'], undefined, { name: 'answer' }));
    graph.outputs.push({ name: 'answer', dataType: 1, dims: null });
    const values = graph.nodes.map(({ outputs }) => outputs[0]!).filter((name) => /^[mr]/.test(name));
    addStatistics(
      model,
      values.map((value) => ({ value, channels: { count: 16, last: true } })),
    );
    const order = executionOrder(graph.nodes).map((at) => graph.nodes[at]!);
    const looked = values.map((value) => {
      const made = order.findIndex(({ outputs }) => outputs.includes(value));
      const last = order.findLastIndex(({ name, inputs }) => name.startsWith('snug.') && inputs.includes(value));
      return order.slice(made + 1, last).filter(({ name }) => !name.startsWith('snug.')).length;
    });
    expect(Math.max(...looked)).toBe(0);
  });
});
