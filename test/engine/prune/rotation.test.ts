import { afterAll, describe, expect, it } from 'vitest';
import { intAttribute, intsAttribute } from '../../../src/onnx/graph.js';
import type { Model } from '../../../src/onnx/model.js';
import { float32Tensor, readFloat32 } from '../../../src/onnx/tensor.js';
import { basesOf } from '../../../src/prune/linear-space.js';
import { pruneModel } from '../../../src/prune/index.js';
import { repairClasses } from '../../../src/prune/repair.js';
import type { Dataset } from '../../../src/runtime/dataset-types.js';
import { analyseModel } from './masking.js';
import { GraphBuilder, numbers } from './random-graph.js';
import { randomSequenceModel, sequenceFeeds } from './sequence-models.js';
import { inProcessRuntime, temporaryFolder } from './support.js';

const folder = temporaryFolder();
afterAll(folder.remove);

/** Random sequences of the shape the models take. */
function sequences(dims: readonly number[], samples = 64): Dataset {
  const size = dims.reduce((product, dim) => product * dim, 1);
  const random = numbers(5);
  const data = Float32Array.from({ length: samples * size }, () => random() * 2 - 1);
  return {
    name: 'sequences',
    samples,
    dims: {},
    fixedBatch: null,
    feeds: (start, count) =>
      Promise.resolve({
        x: { dtype: 'float32', dims: [count, ...dims], data: data.slice(start * size, (start + count) * size) },
      }),
    close: () => Promise.resolve(),
  };
}

const samplesOf = (dataset: Dataset) => ({ runtime: inProcessRuntime, dataset, workDirectory: folder.path });

const [heads, width, inputs, positions] = [2, 6, 16, 5];

/** One attention layer; the weights of `q` and `v` have `rank` directions per head. */
function attention(rank: number, operator: string | null = null, length = positions): Model {
  const g = new GraphBuilder(3);
  const one = (op: string, names: string[], attributes = {}): string => g.op(op, names, attributes)[0]!;
  const lowRank = (): string => {
    const name = g.weight([inputs, heads * width]);
    const tensor = g.initializers.get(name)!;
    const values = new Float32Array(inputs * heads * width);
    for (let head = 0; head < heads; head++) {
      const [a, b] = [g.weight([inputs, rank], 1), g.weight([rank, width], 1)].map((n) => {
        const factor = readFloat32(g.initializers.get(n)!);
        g.initializers.delete(n);
        return factor;
      }) as [Float32Array, Float32Array];
      for (let row = 0; row < inputs; row++) {
        for (let unit = 0; unit < width; unit++) {
          let sum = 0;
          for (let k = 0; k < rank; k++) sum += a[row * rank + k]! * b[k * width + unit]!;
          values[row * heads * width + head * width + unit] = sum;
        }
      }
    }
    g.initializers.set(name, float32Tensor(name, tensor.dims, values));
    return name;
  };
  const perHead = (weight: string): string => {
    const made = one('Reshape', [one('MatMul', ['x', weight]), g.ints([0, 0, heads, width])]);
    return one('Transpose', [operator === null ? made : one(operator, [made])], { perm: intsAttribute([0, 2, 1, 3]) });
  };
  const q = perHead(lowRank());
  const keys = one('Transpose', [perHead(g.weight([inputs, heads * width]))], { perm: intsAttribute([0, 1, 3, 2]) });
  const v = perHead(lowRank());
  const mixed = one('MatMul', [one('Softmax', [one('MatMul', [q, keys])], { axis: intAttribute(-1) }), v]);
  const together = one('Reshape', [
    one('Transpose', [mixed], { perm: intsAttribute([0, 2, 1, 3]) }),
    g.ints([0, 0, -1]),
  ]);
  const output = one('MatMul', [together, g.weight([heads * width, 4])]);
  return g.model(output, ['n', length, inputs], ['n', length, 4]);
}

describe('turning units before they are cut', () => {
  it('leaves the answers of random networks as they were', async () => {
    const kinds = new Set<string>();
    for (let seed = 1; seed <= 16; seed++) {
      const model = randomSequenceModel(seed);
      const { graph, classes } = analyseModel(model);
      const dims = sequenceFeeds(seed).x!.dims.slice(1);
      for (const one of classes) {
        if (basesOf(graph, one) === null) continue;
        kinds.add(one.kind);
        const whole = [{ one, width: one.width }];
        const samples = samplesOf(sequences(dims));
        const { outputError } = await repairClasses(model, graph, whole, new Map(), samples, { method: 'repair' });
        expect(outputError, `seed ${seed}, ${one.name}`).toBeLessThan(1e-8);
      }
    }
    expect([...kinds]).toEqual(expect.arrayContaining(['query-key-width', 'value-width']));
  }, 120_000);

  it('finds the directions that are used, which no choice of units does', async () => {
    const cut = async (model: Model): Promise<number> => {
      const widths = analyseModel(model).classes.filter(({ kind }) => kind.endsWith('-width'));
      expect(widths).toHaveLength(2);
      const perClass = Object.fromEntries(widths.map(({ id }) => [id, 3]));
      const samples = samplesOf(sequences([positions, inputs]));
      return (await pruneModel(model, { ratio: 0, perClass, method: 'repair', samples })).damage!.sqnrDb;
    };
    expect(await cut(attention(3))).toBeGreaterThan(60);
    expect(await cut(attention(3, 'LeakyRelu'))).toBeLessThan(30);
  });

  it('takes no basis where anything nonlinear lies between', () => {
    const based = (model: Model): boolean[] => {
      const { graph, classes } = analyseModel(model);
      return classes.filter(({ kind }) => kind.endsWith('-width')).map((one) => basesOf(graph, one) !== null);
    };
    expect(based(attention(3))).toEqual([true, true]);
    expect(based(attention(3, 'Tanh'))).toEqual([false, false]);
    // Nor where marking every element of an output would take more memory than the basis is worth.
    expect(based(attention(3, null, 2 ** 19))).toEqual([false, false]);
  });
});
