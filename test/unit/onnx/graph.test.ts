import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { checkModel, unknownOperators } from '../../../src/onnx/check.js';
import {
  cloneModel,
  constantValue,
  dropInitializerInputs,
  floatAttribute,
  freshName,
  getInt,
  getInts,
  getString,
  indexGraph,
  intAttribute,
  intsAttribute,
  listConstantNodesFirst,
  makeNode,
  nodeLabel,
  removeDeadNodesAndInitializers,
  replaceUses,
  stringAttribute,
  tensorAttribute,
  topologicalOrder,
  walkGraphs,
} from '../../../src/onnx/graph.js';
import type { Graph } from '../../../src/onnx/model.js';
import { float32Tensor, int64Tensor, readNumbers } from '../../../src/onnx/tensor.js';
import { parseModel } from '../../../src/onnx/read.js';
import { serializeModel } from '../../../src/onnx/write.js';
import { chain, graphOf, modelOf, value } from './build.js';

const weight = (name: string): ReturnType<typeof float32Tensor> =>
  float32Tensor(name, [2, 2], Float32Array.of(1, 2, 3, 4));

/** y = If(c) then x + w else x: both bodies capture. */
function branching(): Graph {
  const body = (nodes: ReturnType<typeof makeNode>[], output: string): Graph =>
    graphOf({ nodes, outputs: [value(output)] });
  return graphOf({
    nodes: [
      makeNode('Relu', ['x'], ['h']),
      makeNode('Relu', ['h'], ['unused']),
      makeNode('If', ['c'], ['y'], {
        then_branch: { type: 'graph', value: body([makeNode('Add', ['h', 'w'], ['t'])], 't') },
        else_branch: { type: 'graph', value: body([makeNode('Identity', ['h'], ['e'])], 'e') },
      }),
    ],
    initializers: [weight('w'), weight('dead')],
    inputs: [value('x', [2, 2]), value('c', [], 9)],
    outputs: [value('y')],
  });
}

describe('index', () => {
  it('finds producers, consumers and captures', () => {
    const graph = branching();
    const index = indexGraph(graph);
    expect(index.producer.get('h')?.opType).toBe('Relu');
    expect(index.consumers.get('h')?.map(({ input, captured }) => [input, captured])).toEqual([
      [0, false],
      [-1, true],
    ]);
    expect(index.consumers.get('w')?.[0]?.captured).toBe(true);
    expect([...index.outputs]).toEqual(['y']);
  });

  it('removes what nothing leads from, and keeps captures', () => {
    const graph = branching();
    expect(removeDeadNodesAndInitializers(graph)).toEqual({ nodes: 1, initializers: 1 });
    expect(graph.nodes.map((node) => node.opType)).toEqual(['Relu', 'If']);
    expect([...graph.initializers.keys()]).toEqual(['w']);
  });

  it('renames uses inside bodies, but not names a body defines itself', () => {
    const graph = branching();
    expect(replaceUses(graph, 'h', 'h2')).toBe(3);
    const inputs: string[] = [];
    walkGraphs(graph, (inner) => inner.nodes.forEach((node) => inputs.push(...node.inputs)));
    expect(inputs.filter((name) => name === 'h')).toEqual([]);
    expect(inputs.filter((name) => name === 'h2')).toHaveLength(3);
  });

  it('gives names used nowhere, also not in bodies, and never twice', () => {
    const graph = branching();
    expect(freshName(graph, 'w')).toBe('w_1');
    expect(freshName(graph, 't')).toBe('t_1');
    expect(freshName(graph, 'new')).toBe('new');
    expect(freshName(graph, 'new')).toBe('new_1');
    expect(freshName(graph, 'new_1')).not.toBe('new_1');
  });
});

describe('order', () => {
  it('lists constant-only nodes first and keeps the rest', () => {
    const graph = graphOf({
      nodes: [
        makeNode('Relu', ['x'], ['a']),
        makeNode('DequantizeLinear', ['q', 's'], ['w']),
        makeNode('MatMul', ['a', 'w'], ['b']),
        makeNode('Constant', [], ['k'], { value_float: floatAttribute(1) }),
        makeNode('Neg', ['k'], ['nk']),
        makeNode('Mul', ['b', 'nk'], ['y']),
      ],
      initializers: [weight('q'), weight('s')],
      inputs: [value('x')],
      outputs: [value('y')],
    });
    expect(listConstantNodesFirst(graph).map((node) => node.opType)).toEqual([
      'DequantizeLinear',
      'Constant',
      'Neg',
      'Relu',
      'MatMul',
      'Mul',
    ]);
  });

  it('sorts any shuffled acyclic graph, and leaves sorted ones alone', () => {
    fc.assert(
      fc.property(
        fc.array(fc.array(fc.nat(20), { maxLength: 3 }), { minLength: 1, maxLength: 20 }),
        fc.infiniteStream(fc.nat()),
        (sources, random) => {
          const nodes = sources.map((from, index) =>
            makeNode('Op', index === 0 ? ['x'] : from.map((source) => `v${source % index}`), [`v${index}`]),
          );
          expect(topologicalOrder(graphOf({ nodes }))).toEqual(nodes);
          const shuffled = nodes
            .map((node) => [random.next().value as number, node] as const)
            .sort(([a], [b]) => a - b)
            .map(([, node]) => node);
          const seen = new Set(['x']);
          for (const node of listConstantNodesFirst(graphOf({ nodes: shuffled }))) {
            for (const input of node.inputs) expect(seen.has(input)).toBe(true);
            for (const output of node.outputs) seen.add(output);
          }
        },
      ),
    );
  });

  it('refuses a cycle', () => {
    const nodes = [makeNode('Add', ['b', 'x'], ['a'], {}, { name: 'first' }), makeNode('Relu', ['a'], ['b'])];
    expect(() => topologicalOrder(graphOf({ nodes }))).toThrow(/first.*circle/);
  });
});

describe('constants and attributes', () => {
  it('reads every form of Constant', () => {
    const tensor = int64Tensor('', [2], [5, 6]);
    const forms = {
      value: tensorAttribute(tensor),
      value_int: intAttribute(3),
      value_ints: intsAttribute([1, 2]),
      value_float: floatAttribute(0.5),
      value_floats: { type: 'floats', value: [0.5, 1] },
    } as const;
    const expected = { value: [5, 6], value_int: [3], value_ints: [1, 2], value_float: [0.5], value_floats: [0.5, 1] };
    for (const [name, attribute] of Object.entries(forms)) {
      const graph = graphOf({ nodes: [makeNode('Constant', [], ['k'], { [name]: attribute })] });
      const found = constantValue(graph, indexGraph(graph), 'k');
      expect(found && readNumbers(found)).toEqual(expected[name as keyof typeof expected]);
    }
    const graph = graphOf({ nodes: [makeNode('Relu', ['x'], ['y'])], initializers: [weight('w')] });
    expect(constantValue(graph, indexGraph(graph), 'w')?.name).toBe('w');
    expect(constantValue(graph, indexGraph(graph), 'y')).toBeNull();
  });

  it('gets attributes with defaults and refuses another type', () => {
    const node = makeNode('Conv', ['x'], ['y'], { group: intAttribute(4), auto_pad: stringAttribute('SAME_UPPER') });
    expect(getInt(node, 'group', 1)).toBe(4);
    expect(getInt(node, 'missing', 1)).toBe(1);
    expect(getString(node, 'auto_pad', 'NOTSET')).toBe('SAME_UPPER');
    expect(getInts(node, 'pads', null)).toBeNull();
    expect(() => getInts(node, 'group', null)).toThrow(/"group" of Conv/);
    expect(nodeLabel(node)).toBe('Conv(y)');
  });
});

describe('clone', () => {
  it('can be edited without touching the original', () => {
    const original = modelOf(branching());
    const before = serializeModel(original);
    const copy = cloneModel(original);
    replaceUses(copy.graph, 'h', 'z');
    removeDeadNodesAndInitializers(copy.graph);
    copy.graph.inputs[0]!.dims![0] = 99;
    copy.graph.initializers.get('w')?.dims.push(1);
    copy.opsets.set('', 21);
    copy.metadata.set('a', 'b');
    expect(serializeModel(original)).toEqual(before);
  });

  it('takes initializers off the inputs', () => {
    const model = chain([weight('w')]);
    model.irVersion = 3;
    model.graph.inputs.push(value('w', [2, 2]));
    checkModel(model);
    dropInitializerInputs(model);
    expect(model.graph.inputs.map((input) => input.name)).toEqual(['x']);
    expect(model.irVersion).toBe(4);
  });
});

describe('check', () => {
  it('names the node and value when nothing makes an input', () => {
    const model = chain([weight('w')]);
    model.graph.nodes[0]!.inputs[1] = 'lost';
    expect(() => checkModel(model)).toThrow(/mul0.*"lost"/);
  });

  it.each([
    ['a value made twice', (graph: Graph) => graph.nodes.push(makeNode('Relu', ['x'], ['y']))],
    ['an output nobody makes', (graph: Graph) => graph.outputs.push(value('nowhere'))],
    ['a cycle', (graph: Graph) => graph.nodes.push(makeNode('Add', ['p', 'x'], ['q']), makeNode('Relu', ['q'], ['p']))],
    ['no outputs', (graph: Graph) => (graph.outputs = [])],
  ])('refuses %s', (_, damage) => {
    const model = chain([weight('w')]);
    damage(model.graph);
    expect(() => checkModel(model)).toThrow(expect.objectContaining({ code: 'E_MALFORMED' }));
  });

  it('sees outer values from bodies, but not the values of another body', () => {
    const model = modelOf(branching());
    checkModel(model);
    const body = model.graph.nodes[2]?.attributes.get('else_branch');
    if (body?.type === 'graph') body.value.nodes[0]!.inputs[0] = 't';
    expect(() => checkModel(model)).toThrow(/"t"/);
  });

  it('refuses versions the runtime does not load', () => {
    expect(() => checkModel(modelOf(branching(), 27))).toThrow(expect.objectContaining({ code: 'E_OPSET_TOO_NEW' }));
    const model = modelOf(branching());
    model.irVersion = 14;
    expect(() => checkModel(model)).toThrow(expect.objectContaining({ code: 'E_OPSET_TOO_NEW' }));
  });

  it('lists operators nobody knows, in bodies too, with the first node', () => {
    const model = modelOf(branching());
    model.graph.nodes.push(makeNode('Magic', ['x'], ['m'], {}, { name: 'wand', domain: 'my.ops' }));
    model.graph.nodes.push(makeNode('Magic', ['x'], ['n'], {}, { domain: 'my.ops' }));
    model.graph.nodes.push(makeNode('Gelu', ['x'], ['o']));
    const body = model.graph.nodes[2]?.attributes.get('else_branch');
    if (body?.type === 'graph') body.value.nodes[0]!.opType = 'Idenity';
    expect(unknownOperators(model).map(({ operator, node, count }) => [operator, node, count])).toEqual([
      ['Idenity', 'Idenity(e)', 1],
      ['my.ops.Magic', 'wand', 2],
      ['Gelu', 'Gelu(o)', 1],
    ]);
    expect(unknownOperators(parseModel(serializeModel(modelOf(branching()))))).toEqual([]);
  });
});
