import { describe, expect, test } from 'vitest';
import { makeNode } from '../../../src/onnx/graph.js';
import { DataType, type Model, type Node } from '../../../src/onnx/model.js';
import { defaultBindings, inferShapes, shapeGaps } from '../../../src/onnx/shape.js';
import { float32Tensor, int64Tensor } from '../../../src/onnx/tensor.js';
import { classifyRuntimeError } from '../../../src/runtime/errors.js';
import { graphOf, modelOf, value } from './build.js';

const table = (name: string, rows: number) => float32Tensor(name, [rows, 4], new Float32Array(rows * 4));

/** ids → embeddings + positions; `positions` makes the value "p" from "length", the size of the sequence. */
function encoder(positions: Node[], rows: number): Model {
  return modelOf(
    graphOf({
      nodes: [
        makeNode('Gather', ['words', 'ids'], ['e']),
        makeNode('Shape', ['ids'], ['s']),
        makeNode('Gather', ['s', 'one'], ['length']),
        ...positions,
        makeNode('Add', ['e', 'p'], ['y']),
      ],
      initializers: [
        table('words', 1000),
        table('table', rows),
        int64Tensor('zero', [], [0]),
        int64Tensor('one', [], [1]),
        int64Tensor('axes', [1], [0]),
        int64Tensor('start', [1], [0]),
        int64Tensor('last', [1], [1]),
        int64Tensor(
          'numbers',
          [1, rows],
          Array.from({ length: rows }, (_, index) => index),
        ),
      ],
      inputs: [value('ids', ['batch', 'sequence'], DataType.INT64)],
      outputs: [value('y', null)],
    }),
  );
}

/** Positions counted up and looked up, as newer exporters write them. */
const counted = [makeNode('Range', ['zero', 'length', 'one'], ['r']), makeNode('Gather', ['table', 'r'], ['p'])];
/** Positions cut from a buffer and looked up, as older ones do. */
const cut = [
  makeNode('Unsqueeze', ['length', 'axes'], ['end']),
  makeNode('Slice', ['numbers', 'start', 'end', 'last'], ['r']),
  makeNode('Gather', ['table', 'r'], ['p']),
];
/** A table cut to length. */
const sliced = [
  makeNode('Unsqueeze', ['length', 'axes'], ['end']),
  makeNode('Slice', ['table', 'start', 'end', 'axes'], ['p']),
];

describe('the sequence assumed when nobody says', () => {
  test.each([
    ['counted', counted],
    ['cut from a buffer', cut],
    ['a table cut to length', sliced],
  ])('is as long as the model has positions: %s', (_, positions) => {
    const { dims, assumed } = defaultBindings(encoder(positions, 48), 3);
    expect(dims).toEqual({ batch: 3, sequence: 48 });
    expect(assumed).toEqual(['sequence']);
  });

  test('stays 128 where there are enough', () => {
    expect(defaultBindings(encoder(counted, 512), 1).dims.sequence).toBe(128);
  });

  test('a size that was given is never changed, and the gap says what is wrong with it', () => {
    const model = encoder(counted, 48);
    expect(defaultBindings(model, 1, { sequence: 100 }).dims.sequence).toBe(100);
    const { unknown } = inferShapes(model, { batch: 1, sequence: 100 });
    expect(shapeGaps({ unknown })).toMatchObject([{ value: 'p', reaches: ['p', 'y'] }]);
    expect(unknown[0]?.reason).toMatch(/48 entries to pick from/);
  });

  test('what was given beside leaves less room', () => {
    const model = encoder(
      [
        makeNode('Shape', ['past'], ['ps']),
        makeNode('Gather', ['ps', 'zero'], ['before']),
        makeNode('Add', ['before', 'length'], ['total']),
        makeNode('Range', ['before', 'total', 'one'], ['r']),
        makeNode('Gather', ['table', 'r'], ['p']),
      ],
      48,
    );
    model.graph.inputs.push(value('past', ['past_sequence', 4]));
    expect(defaultBindings(model, 1).dims).toMatchObject({ sequence: 48, past_sequence: 0 });
    expect(defaultBindings(model, 1, { past_sequence: 40 }).dims).toMatchObject({ sequence: 8, past_sequence: 40 });
  });

  test('a declared shape does not hide that positions run out', () => {
    const model = encoder(counted, 48);
    model.graph.valueInfo.set('p', value('p', ['sequence', 4]));
    expect(inferShapes(model, { batch: 1, sequence: 100 }).conflicts).toHaveLength(1);
    expect(defaultBindings(model, 1).dims.sequence).toBe(48);
  });

  test('a model that contradicts itself at any length keeps the usual one', () => {
    const model = encoder([makeNode('Identity', ['numbers'], ['p'])], 3);
    expect(defaultBindings(model, 1).dims.sequence).toBe(128);
  });

  test('a file that breaks the format is left to whoever reads its shapes', () => {
    const model = encoder(counted, 48);
    model.graph.nodes[0]?.attributes.set('axis', { type: 'float', value: 1 });
    expect(defaultBindings(model, 1).dims.sequence).toBe(128);
  });
});

test.each([
  "Non-zero status code returned while running Gather node. Name:'/g' Status Message: indices element out of data bounds, idx=64 must be within the inclusive range [-64,63]",
  'Attempting to broadcast an axis by a dimension other than 1. 64 by 128',
  'Concat node. Non concat axis dimensions must match: Axis 1 has mismatched dimensions of 3 and 4',
])('a run that fails for its sizes says how to give others: %s', (text) => {
  const error = classifyRuntimeError(text, 'run');
  expect(error.code).toBe('E_RUN_FAILED');
  expect(error.action).toMatch(/--dim/);
});
