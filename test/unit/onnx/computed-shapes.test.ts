import { expect, test } from 'vitest';
import { makeNode } from '../../../src/onnx/graph.js';
import { tensorAttribute } from '../../../src/onnx/attribute.js';
import { int64Tensor } from '../../../src/onnx/tensor.js';
import { inferShapes } from '../../../src/onnx/shape.js';
import { graphOf, modelOf, value } from './build.js';

/** Expand of a class token as exporters write it: -1 in the wanted shape means "keep", worked out by Where. */
test('a shape worked out while running is known in numbers, but not by name to the planner', () => {
  const fill = tensorAttribute(int64Tensor('one', [1], [1]));
  const model = modelOf(
    graphOf({
      nodes: [
        makeNode('Shape', ['x'], ['shape']),
        makeNode('Gather', ['shape', 'zero'], ['batch']),
        makeNode('Concat', ['batch', 'open', 'open'], ['wanted'], { axis: { type: 'int', value: 0 } }),
        makeNode('ConstantOfShape', ['three'], ['ones'], { value: fill }),
        makeNode('Mul', ['ones', 'open'], ['opens']),
        makeNode('Equal', ['wanted', 'opens'], ['isOpen']),
        makeNode('Where', ['isOpen', 'ones', 'wanted'], ['sizes']),
        makeNode('Expand', ['token', 'sizes'], ['y']),
      ],
      initializers: [
        int64Tensor('zero', [1], [0]),
        int64Tensor('open', [1], [-1]),
        int64Tensor('three', [1], [3]),
        int64Tensor('token', [1, 1, 4], [1, 2, 3, 4]),
      ],
      inputs: [value('x', ['batch', 3])],
      outputs: [value('y', [null, null, null], 7)],
    }),
  );
  const { shapes, symbols, unknown } = inferShapes(model, { batch: 5 });
  expect(unknown).toEqual([]);
  expect(shapes.get('y')?.dims).toEqual([5, 1, 4]);
  expect(symbols.get('y')?.[0]).toBeNull();
});
