import { describe, expect, it } from 'vitest';
import type { Provider } from '../../../src/contract/types.js';
import { estimateMemory } from '../../../src/memory/estimate.js';
import { intAttribute, intsAttribute } from '../../../src/onnx/graph.js';
import type { Model } from '../../../src/onnx/model.js';
import { defaultBindings, inferShapes } from '../../../src/onnx/shape.js';
import { findClasses, previewPrune, pruneModel } from '../../../src/prune/index.js';
import { unitsPerMultiple } from '../../../src/prune/widths.js';
import { architectures } from '../../engine/prune/architectures.js';
import { GraphBuilder } from '../../engine/prune/random-graph.js';

const classesOf = (model: Model) => findClasses(model, inferShapes(model, defaultBindings(model, 2).dims));

type Build = (g: GraphBuilder) => string;
function image(build: Build, outputDims: (number | string)[] = ['n', 5]): Model {
  const g = new GraphBuilder(7);
  const output = build(g);
  return g.model(output, ['n', 3, 6, 6], outputDims);
}

const head = (g: GraphBuilder, x: string, features: number): string =>
  g.op('Gemm', [g.op('Flatten', [x])[0]!, g.weight([5, features])], { transB: intAttribute(1) })[0]!;
const convolution = (g: GraphBuilder, x: string, from: number, to: number): string => {
  const attributes = { kernel_shape: intsAttribute([1, 1]) };
  return g.op('Conv', [x, g.weight([to, from, 1, 1]), g.weight([to])], attributes)[0]!;
};

const cases: { what: string; build: Build; widths: number[] }[] = [
  {
    what: 'Conv, Relu, Flatten, Gemm',
    build: (g) => head(g, g.op('Relu', [convolution(g, 'x', 3, 8)])[0]!, 8 * 36),
    widths: [8],
  },
  {
    what: 'a gate and what it gates as one class',
    build: (g) => {
      const gate = g.op('Sigmoid', [convolution(g, 'x', 3, 8)])[0]!;
      return head(g, g.op('Mul', [gate, convolution(g, 'x', 3, 8)])[0]!, 8 * 36);
    },
    widths: [8],
  },
  {
    what: 'both halves of a split gate as one class',
    build: (g) => {
      const [a, b] = g.op('Split', [convolution(g, 'x', 3, 16)], { axis: intAttribute(1) }, 2);
      return head(g, g.op('Mul', [a!, b!])[0]!, 8 * 36);
    },
    widths: [8],
  },
  {
    what: 'concatenated branches as classes of their own',
    build: (g) => {
      const parts = [convolution(g, 'x', 3, 8), convolution(g, 'x', 3, 6)];
      return head(g, g.op('Concat', parts, { axis: intAttribute(1) })[0]!, 14 * 36);
    },
    widths: [8, 6],
  },
  {
    what: 'the inside of a residual block, and its stream for those who ask',
    build: (g) => {
      const stream = convolution(g, 'x', 3, 8);
      const inner = g.op('Relu', [convolution(g, stream, 8, 6)])[0]!;
      return head(g, g.op('Add', [stream, convolution(g, inner, 6, 8)])[0]!, 8 * 36);
    },
    widths: [8, 6],
  },
  {
    what: 'channels through a depthwise convolution',
    build: (g) => {
      const wide = convolution(g, 'x', 3, 8);
      return head(g, g.conv(g.op('Relu', [wide])[0]!, 8, 8, 8), 8 * 36);
    },
    widths: [8],
  },
  {
    what: 'nothing whose axis is softmaxed',
    build: (g) => head(g, g.op('Softmax', [convolution(g, 'x', 3, 8)], { axis: intAttribute(1) })[0]!, 8 * 36),
    widths: [],
  },
  {
    what: 'nothing behind an operator without a rule',
    build: (g) => head(g, g.op('NobodyKnows', [convolution(g, 'x', 3, 8)])[0]!, 8 * 36),
    widths: [],
  },
  {
    what: 'nothing whose size a running model reads',
    build: (g) => {
      const wide = convolution(g, 'x', 3, 8);
      const size = g.op('Cast', [g.op('Shape', [wide])[0]!], { to: intAttribute(1) })[0]!;
      return g.op('Add', [head(g, wide, 8 * 36), g.op('ReduceSum', [size], { keepdims: intAttribute(0) })[0]!])[0]!;
    },
    widths: [],
  },
];

describe('findClasses', () => {
  it.each(cases)('finds $what', ({ build, widths }) => {
    expect(classesOf(image(build)).map((one) => one.width)).toEqual(widths);
  });

  it('says what the units are, in words, with the layers that make them', () => {
    const named = architectures().find(({ name }) => name.includes('decoder with SwiGLU, written in way 1'))!;
    const names = classesOf(named.model).map((one) => one.name.replace(/ \(.*/, ''));
    expect(names).toEqual(
      expect.arrayContaining([
        'hidden size of stream 1',
        'key/value head groups of layer 2',
        'query heads per group of layer 2',
        'hidden width of MLP 2',
      ]),
    );
  });

  it('cuts heads and streams only when asked', async () => {
    const { model } = architectures().find(({ name }) => name.startsWith('fused encoder'))!;
    const { classes } = await pruneModel(model, { ratio: 0.5, method: 'magnitude', roundTo: 1 });
    const shrunk = new Set(classes.filter((one) => one.after < one.before).map((one) => one.id));
    for (const one of classesOf(model)) expect(shrunk.has(one.id)).toBe(one.kind === 'features');
  });

  it('rounds to rows, so that wide units are not rounded twice', () => {
    expect([1, 2, 3, 8, 12, 64].map((unitSize) => unitsPerMultiple(8, unitSize))).toEqual([8, 4, 8, 1, 2, 1]);
  });

  it('leaves alone what the model gives out', () => {
    const model = image((g) => head(g, convolution(g, 'x', 3, 8), 8 * 36));
    const inner = model.graph.nodes[0]!.outputs[0]!;
    expect(classesOf(model)).toHaveLength(1);
    model.graph.outputs.push({ name: inner, dataType: 1, dims: ['n', 8, 6, 6] });
    expect(classesOf(model)).toHaveLength(0);
  });

  it('counts the bytes one unit costs in every weight that holds it', () => {
    const [one] = classesOf(image((g) => head(g, convolution(g, 'x', 3, 8), 8 * 36)));
    // 3 weights and a bias of the convolution, 36 columns for 5 outputs of the Gemm.
    expect(one!.bytesPerUnit).toBe(4 * (3 + 1 + 36 * 5));
  });
});

describe('pruneModel', () => {
  const model = image((g) => {
    const first = g.op('Relu', [convolution(g, 'x', 3, 32)])[0]!;
    return head(g, g.op('Relu', [convolution(g, first, 32, 16)])[0]!, 16 * 36);
  });
  const bytesOf = (pruned: Model) => [...pruned.graph.initializers.values()].map((tensor) => [...tensor.data.read()]);

  it('gives the same model for the same seed, another for another seed', async () => {
    const seeded = async (seed: number) =>
      bytesOf((await pruneModel(model, { ratio: 0.5, method: 'random', seed })).model);
    expect(await seeded(3)).toEqual(await seeded(3));
    expect(await seeded(3)).not.toEqual(await seeded(4));
  });

  it('rounds widths, keeps a quarter, and obeys a width given for one class', async () => {
    const widths = async (request: { ratio: number; perClass?: Record<string, number> }) =>
      (await pruneModel(model, { ...request, method: 'magnitude' })).classes.map((one) => one.after);
    const [first] = classesOf(model);
    expect(await widths({ ratio: 0.3 })).toEqual([16, 8]);
    expect(await widths({ ratio: 0.95 })).toEqual([16, 8]);
    expect(await widths({ ratio: 0, perClass: { [first!.id]: 5 } })).toEqual([5, 16]);
  });

  it('keeps whole blocks of channels where the kernels hold them in blocks', () => {
    const wide = image((g) => head(g, g.op('Relu', [convolution(g, 'x', 3, 128)])[0]!, 128 * 36));
    const widthOn = (provider: Provider) => previewPrune(wide, { ratio: 0.3, provider }).classes[0]!.after;
    expect([widthOn('cpu'), widthOn('webgpu'), widthOn('cuda')]).toEqual([96, 88, 88]);
    // On the cpu 88 channels take the memory of 96.
    const bytesAt = (width: number) =>
      estimateMemory(previewPrune(wide, { ratio: 0, perClass: { [classesOf(wide)[0]!.id]: width } }).model, {
        provider: 'cpu',
        batch: 64,
        dims: {},
      }).topTensors.find(({ kind }) => kind === 'activation')!.bytes;
    expect(bytesAt(88)).toBe(bytesAt(96));
    expect(bytesAt(80)).toBeLessThan(bytesAt(96));
  });

  it('leaves the given model as it was', async () => {
    const before = bytesOf(model);
    const { before: size, after } = await pruneModel(model, { ratio: 0.5, method: 'magnitude' });
    expect(bytesOf(model)).toEqual(before);
    expect(after.parameters).toBeLessThan(size.parameters);
    expect(after.weightBytes).toBe(4 * after.parameters);
  });

  it('previews sizes without reading a weight', () => {
    const untouchable: Model = { ...model, graph: { ...model.graph, initializers: new Map(model.graph.initializers) } };
    for (const [name, tensor] of untouchable.graph.initializers) {
      if (tensor.dataType !== 1) continue;
      const refuse = (): never => {
        throw new Error('read');
      };
      untouchable.graph.initializers.set(name, {
        ...tensor,
        data: { ...tensor.data, read: refuse, readRange: refuse },
      });
    }
    expect(previewPrune(untouchable, { ratio: 0.5 }).after.parameters).toBeLessThan(
      previewPrune(untouchable, { ratio: 0.1 }).after.parameters,
    );
  });

  it('refuses quantized models, impossible requests and repair without samples', async () => {
    const quantized: Model = { ...model, graph: { ...model.graph, nodes: [...model.graph.nodes] } };
    quantized.graph.nodes.push({ ...model.graph.nodes[0]!, opType: 'DequantizeLinear' });
    await expect(pruneModel(quantized, { ratio: 0.5, method: 'magnitude' })).rejects.toMatchObject({
      code: 'E_NOT_SUPPORTED',
    });
    await expect(pruneModel(model, { ratio: 1.5, method: 'magnitude' })).rejects.toMatchObject({
      code: 'E_BAD_REQUEST',
    });
    const unknown = { ratio: 0, perClass: { nothing: 3 }, method: 'magnitude' } as const;
    await expect(pruneModel(model, unknown)).rejects.toMatchObject({ code: 'E_BAD_REQUEST' });
    await expect(pruneModel(model, { ratio: 0.5, method: 'repair' })).rejects.toMatchObject({ code: 'E_BAD_REQUEST' });
  });
});
