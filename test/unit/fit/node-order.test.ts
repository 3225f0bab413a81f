import * as ort from 'onnxruntime-node';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { fewestLiveBytes } from '../../../src/fit/node-order.js';
import { estimateMemory } from '../../../src/memory/estimate.js';
import { intAttribute, intsAttribute, makeNode } from '../../../src/onnx/graph.js';
import type { Model, Node } from '../../../src/onnx/model.js';
import { int64Tensor } from '../../../src/onnx/tensor.js';
import { serializeModel } from '../../../src/onnx/write.js';
import { profileModel } from '../../engine/memory/profile.js';
import { graphOf, modelOf, value } from '../onnx/build.js';

/**
 * Two branches of one input: `wide` blows it up eightfold on the way to a small result, `long` leaves a large result
 * behind. Whichever is listed later runs first.
 */
function twoBranches(wideFirst: boolean): Model {
  const wide = [
    makeNode('Concat', ['x', 'x', 'x', 'x', 'x', 'x', 'x', 'x'], ['w1'], { axis: intAttribute(1) }),
    makeNode('Neg', ['w1'], ['w2']),
    makeNode('ReduceMax', ['w2'], ['w3'], { axes: intsAttribute([1]) }),
  ];
  const long = [
    makeNode('Concat', ['x', 'x', 'x', 'x'], ['l1'], { axis: intAttribute(1) }),
    makeNode('Neg', ['l1'], ['l2']),
  ];
  const nodes = [...(wideFirst ? [...long, ...wide] : [...wide, ...long]), makeNode('Add', ['l2', 'w3'], ['y'])];
  const model = modelOf(
    graphOf({ nodes, inputs: [value('x', ['batch', 4096])], outputs: [value('y', ['batch', 16384])] }),
  );
  return model;
}

const peakOf = (model: Model) =>
  estimateMemory(model, { provider: 'cpu', batch: 32, dims: {}, levers: { memoryPattern: false }, threads: 1 })
    .peakBytes;

describe('an order with fewer live bytes', () => {
  it('runs the branch first that needs most beyond its result', () => {
    const bad = twoBranches(false);
    const order = fewestLiveBytes(bad, 32);
    expect(order).not.toBeNull();
    const good = { ...bad, graph: { ...bad.graph, nodes: order ?? [] } };
    expect(peakOf(good)).toBeLessThan(peakOf(bad) * 0.9);
    expect(peakOf(good)).toBe(peakOf(twoBranches(true)));
  });

  it('leaves an order alone that is as good', () => {
    expect(fewestLiveBytes(twoBranches(true), 32)).toBeNull();
  });

  it('keeps answers, and the runtime’s own counter falls as estimated', async () => {
    const bad = twoBranches(false);
    const order = fewestLiveBytes(bad, 32) ?? [];
    const good = { ...bad, graph: { ...bad.graph, nodes: order } };
    const x = new ort.Tensor(
      'float32',
      Float32Array.from({ length: 2 * 4096 }, (_, i) => (i % 97) - 48),
      [2, 4096],
    );
    const [before, after] = await Promise.all(
      [bad, good].map(async (model) => {
        const session = await ort.InferenceSession.create(serializeModel(model));
        return Array.from((await session.run({ x }))['y']?.data as Float32Array);
      }),
    );
    expect(after).toEqual(before);
    const options = { level: 'all', memoryPattern: false, runs: 2, dims: { batch: 32 } } as const;
    const peak = async (model: Model) => Math.max(...(await profileModel(serializeModel(model), options)).peaks);
    const [high, low] = [await peak(bad), await peak(good)];
    expect(low).toBeLessThan(high * 0.9);
    expect(Math.abs(low - peakOf(good))).toBeLessThan(0.01 * low);
  });

  it('is a topological order of the same nodes on any graph', () => {
    const graph = fc.array(fc.tuple(fc.nat(), fc.nat(), fc.integer({ min: 1, max: 6 })), {
      minLength: 1,
      maxLength: 30,
    });
    fc.assert(
      fc.property(graph, (picks) => {
        const names = ['x'];
        const nodes: Node[] = picks.map(([a, b, copies], index) => {
          const first = names[a % names.length] ?? 'x';
          const second = names[b % names.length] ?? 'x';
          const name = `v${index}`;
          names.push(name);
          return copies > 3
            ? makeNode('MatMul', [first, second], [name])
            : makeNode('Tile', [first, `times${copies}`], [name]);
        });
        const times = [1, 2, 3].map((copies) => int64Tensor(`times${copies}`, [2], [1, copies]));
        const model = modelOf(
          graphOf({
            nodes,
            inputs: [value('x', ['batch', 64])],
            outputs: [value(names.at(-1) ?? 'x')],
            initializers: times,
          }),
        );
        const order = fewestLiveBytes(model, 4);
        if (order === null) return;
        expect(new Set(order)).toEqual(new Set(nodes));
        expect(order).toHaveLength(nodes.length);
        const made = new Set(['x', 'times1', 'times2', 'times3']);
        for (const node of order) {
          for (const input of node.inputs) expect(made).toContain(input);
          for (const output of node.outputs) made.add(output);
        }
      }),
      { numRuns: 60 },
    );
  });
});
