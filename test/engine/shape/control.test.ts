import { describe, expect, test } from 'vitest';
import { makeNode } from '../../../src/onnx/graph.js';
import { DataType, type Graph } from '../../../src/onnx/model.js';
import { graphOf, value } from '../../unit/onnx/build.js';
import { attributes, checkCase, constant, fed, infer, ints, scalar, type OperatorCase } from './case.js';

const { FLOAT, INT64, BOOL } = DataType;
const body = (graph: Graph) => ({ type: 'graph' as const, value: graph });

/** A body with outputs of these element types. */
function bodyOf(parts: Parameters<typeof graphOf>[0], outputs: Record<string, number>): Graph {
  return graphOf({ ...parts, outputs: Object.entries(outputs).map(([name, type]) => value(name, null, type)) });
}

const whole = (name: string, number: number) => constantNode(name, [], number);
const constantNode = (name: string, dims: number[], number: number) =>
  makeNode(
    'Constant',
    [],
    [name],
    dims.length === 0 ? attributes({ value_int: number }) : attributes({ value_ints: [number] }),
  );

function ifCase(condition: number, fedCondition: boolean): OperatorCase {
  const then = bodyOf({ nodes: [makeNode('Concat', ['i0', 'i0'], ['t'], attributes({ axis: 0 }))] }, { t: FLOAT });
  const otherwise = bodyOf({ nodes: [makeNode('Relu', ['i0'], ['e'])] }, { e: FLOAT });
  const operand = fedCondition ? fed([], BOOL, [condition]) : constant([], BOOL, [condition]);
  return {
    nodes: [makeNode('If', ['c'], ['o0'], { then_branch: body(then), else_branch: body(otherwise) })],
    operands: { c: operand, i0: fed([2, 3]) },
    outputs: ['o0'],
    opset: 17,
  };
}

/** Carries `h` through `step` for `rounds` rounds and stacks `h` of each. */
function loopCase(step: Graph['nodes'], rounds: number, outputs = ['o0', 'o1'], opset = 17): OperatorCase {
  const inner = bodyOf(
    {
      nodes: [makeNode('Identity', ['go'], ['on']), ...step, makeNode('Identity', ['h'], ['each'])],
      inputs: [value('i', [], INT64), value('go', [], BOOL), value('h', null)],
    },
    { on: BOOL, next: FLOAT, each: FLOAT },
  );
  return {
    nodes: [makeNode('Loop', ['most', 'yes', 'i0'], outputs, { body: body(inner) })],
    operands: { most: scalar(rounds), yes: constant([], BOOL, [1]), i0: fed([2, 3]) },
    outputs,
    opset,
  };
}

const run = async (given: OperatorCase) => expect(await checkCase(given)).toBe('agrees');

describe('control flow against onnxruntime', () => {
  test.each([0, 1])('If with the constant condition %i takes one branch', (condition) => run(ifCase(condition, false)));

  test('If with a condition known while running only: what the branches share, the rest open', () => {
    const { symbols, shapes, unknown, formulas } = infer(ifCase(1, true));
    expect(shapes.has('o0')).toBe(false);
    expect(symbols.get('o0')).toHaveLength(2);
    expect(formulas('o0')).toEqual(['?o0.0', 'i0_1']);
    expect(unknown).toMatchObject([{ value: 'o0', cause: 'o0' }]);
  });

  test('a condition computed from sizes decides for these sizes', () =>
    run({
      ...ifCase(1, false),
      nodes: [
        makeNode('Shape', ['i0'], ['s']),
        makeNode('Gather', ['s', 'zero'], ['n']),
        makeNode('Equal', ['n', 'two'], ['c']),
        ...ifCase(1, true).nodes,
      ],
      operands: { i0: fed([2, 3]), zero: scalar(0), two: scalar(2) },
    }));

  test('a branch sees values around it, two levels up', () => {
    const inner = bodyOf({ nodes: [makeNode('MatMul', ['i0', 'w'], ['m'])] }, { m: FLOAT });
    const outer = bodyOf(
      { nodes: [makeNode('If', ['c'], ['r'], { then_branch: body(inner), else_branch: body(inner) })] },
      { r: FLOAT },
    );
    return run({
      nodes: [makeNode('If', ['c'], ['o0'], { then_branch: body(outer), else_branch: body(outer) })],
      operands: { c: fed([], BOOL, [1]), i0: fed([2, 3]), w: constant([3, 5]) },
      outputs: ['o0'],
      opset: 17,
    });
  });

  test.each([1, 4])('Loop that keeps its shapes, %i rounds', (rounds) =>
    run(loopCase([makeNode('Relu', ['h'], ['next'])], rounds)),
  );

  test('Loop whose state grows each round is followed to its end', async () => {
    const step = [
      makeNode('Concat', ['h', 'h'], ['next'], attributes({ axis: 1 })),
      makeNode('Size', ['h'], ['count']),
    ];
    // Stacking rounds of different sizes is no valid model, so only the state is an output.
    const given = loopCase(step, 3, ['o0']);
    const [loop] = given.nodes;
    const attribute = loop?.attributes.get('body');
    if (attribute?.type === 'graph') {
      attribute.value.outputs.pop();
      attribute.value.nodes.pop();
    }
    await run(given);
    expect(infer(given).shapes.get('o0')?.dims).toEqual([2, 24]);
  });

  test('Loop with rounds known while running only', async () => {
    const given = loopCase([makeNode('Relu', ['h'], ['next'])], 3);
    given.operands.most = fed([], INT64, [3]);
    const { shapes, symbols, unknown } = infer(given);
    expect(shapes.get('o0')?.dims).toEqual([2, 3]);
    expect(symbols.get('o1')).toHaveLength(3);
    expect(unknown.map((gap) => gap.value)).toEqual(['o1']);
  });

  test('a while loop that counts is followed until its condition is false', async () => {
    const counting = bodyOf(
      {
        nodes: [
          whole('one', 1),
          whole('five', 5),
          makeNode('Add', ['n', 'one'], ['more']),
          makeNode('Less', ['more', 'five'], ['on']),
          makeNode('Relu', ['i0'], ['each']),
        ],
        inputs: [value('i', [], INT64), value('go', [], BOOL), value('n', [], INT64)],
      },
      { on: BOOL, more: INT64, each: FLOAT },
    );
    await run({
      nodes: [makeNode('Loop', ['', 'yes', 'start'], ['o0', 'o1'], { body: body(counting) })],
      operands: { yes: constant([], BOOL, [1]), start: scalar(0), i0: fed([2, 3]) },
      outputs: ['o0', 'o1'],
      opset: 17,
    });
  });

  test.each([
    [0, 0],
    [1, 0],
    [0, 1],
    [-1, -1],
  ])('Scan along input axis %i, stacked along output axis %i', (scan_input_axes, scan_output_axes) => {
    const step = bodyOf(
      {
        nodes: [makeNode('Add', ['h', 'x'], ['next']), makeNode('Identity', ['next'], ['each'])],
        inputs: [value('h'), value('x')],
      },
      { next: FLOAT, each: FLOAT },
    );
    const across = scan_input_axes === 0 ? 5 : 4;
    return run({
      nodes: [
        makeNode('Scan', ['i0', 'i1'], ['o0', 'o1'], {
          body: body(step),
          ...attributes({
            num_scan_inputs: 1,
            scan_input_axes: [scan_input_axes],
            scan_output_axes: [scan_output_axes],
          }),
        }),
      ],
      operands: { i0: fed([across]), i1: fed([4, 5]) },
      outputs: ['o0', 'o1'],
      opset: 17,
    });
  });

  test('sequences: split, grow, pick, join again', () =>
    run({
      nodes: [
        makeNode('SplitToSequence', ['i0', 'parts'], ['s'], attributes({ axis: 1 })),
        makeNode('SequenceInsert', ['s', 'i1'], ['s1']),
        makeNode('SequenceErase', ['s1', 'zero'], ['s2']),
        makeNode('SequenceLength', ['s2'], ['o0']),
        makeNode('SequenceAt', ['s2', 'last'], ['o1']),
        makeNode('ConcatFromSequence', ['s2'], ['o2'], attributes({ axis: 1 })),
      ],
      operands: { i0: fed([2, 7]), i1: fed([2, 4]), parts: ints(1, 2, 4), zero: scalar(0), last: scalar(-1) },
      outputs: ['o0', 'o1', 'o2'],
      opset: 17,
    }));

  test.each([undefined, 0, 1])('SplitToSequence without lengths, keepdims %s, stacked again', (keepdims) =>
    run({
      nodes: [
        makeNode('SplitToSequence', ['i0'], ['s'], attributes({ axis: 0, keepdims })),
        makeNode('ConcatFromSequence', ['s'], ['o0'], attributes({ axis: 0, new_axis: 1 })),
      ],
      operands: { i0: fed([3, 4]) },
      outputs: ['o0'],
      opset: 17,
    }),
  );

  test('a loop that collects into a sequence', () => {
    const step = bodyOf(
      {
        nodes: [makeNode('Identity', ['go'], ['on']), makeNode('SequenceInsert', ['s', 'i0'], ['more'])],
        inputs: [value('i', [], INT64), value('go', [], BOOL), { name: 's', dataType: 0, dims: null }],
      },
      { on: BOOL, more: 0 },
    );
    const given: OperatorCase = {
      nodes: [
        makeNode('SequenceEmpty', [], ['s0']),
        makeNode('Loop', ['most', 'yes', 's0'], ['all'], { body: body(step) }),
        makeNode('ConcatFromSequence', ['all'], ['o0'], attributes({ axis: 0 })),
      ],
      operands: { most: scalar(3), yes: constant([], BOOL, [1]), i0: fed([2, 3]) },
      outputs: ['o0'],
      opset: 17,
    };
    expect(infer(given).shapes.get('o0')?.dims).toEqual([6, 3]);
  });

  test('Optional hands its tensor through', () =>
    run({
      nodes: [makeNode('Optional', ['i0'], ['x']), makeNode('OptionalGetElement', ['x'], ['o0'])],
      operands: { i0: fed([3, 4]) },
      outputs: ['o0'],
      opset: 18,
    }));
});
