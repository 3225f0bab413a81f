import { describe, expect, test } from 'vitest';
import type { Provider } from '../../../src/contract/types.js';
import { estimateMemory, prepareEstimate } from '../../../src/memory/estimate.js';
import { DataType, type Model } from '../../../src/onnx/model.js';
import { defaultBindings, inferShapes, ShapeFormulas } from '../../../src/onnx/shape.js';
import { bertBase, gpt2, GraphBuilder, resnet50, unet } from '../../bench/graphs/index.js';

const small = { scale: 1 / 6, layers: 2, vocabulary: 100 };
const models: Record<string, { model: Model; dims: Record<string, number> }> = {
  'residual convolutions': { model: resnet50({ scale: 1 / 8, image: 32 }), dims: {} },
  'open images': { model: unet({ scale: 1 / 8 }), dims: { height: 32, width: 48 } },
  'text encoder': { model: bertBase(small), dims: { sequence: 12 } },
  'text decoder': { model: gpt2(small), dims: { sequence: 3, past_sequence: 9 } },
};

/** A model that reshapes its input to `target` and adds a row to it. */
function reshaped(target: readonly number[]): Model {
  const g = new GraphBuilder('reshaped', 1);
  const x = g.op('Reshape', [g.input('x', DataType.FLOAT, ['batch', 10]), g.int([...target], '/r')], {}, '/r');
  g.output(g.op('Relu', [x], {}, '/relu'), 'y', DataType.FLOAT, ['a', 'b', 'c'].slice(0, target.length));
  return g.finish(17);
}

function formulasOf(model: Model): ShapeFormulas | null {
  const [first, second] = [2, 12].map((batch) => {
    const bindings = defaultBindings(model, batch).dims;
    return { bindings, result: inferShapes(model, bindings) };
  });
  return first && second ? ShapeFormulas.agreedBy(first, second) : null;
}

describe('sizes at many batches', () => {
  describe.each(Object.entries(models))('%s', (_, { model, dims }) => {
    test.each(['cpu', 'webgpu'] as Provider[])('%s: a model made ready estimates as one that was not', (provider) => {
      const prepared = prepareEstimate(model);
      for (const batch of [2, 7, 1, 3, 2]) {
        const options = { provider, batch, dims };
        expect(prepared.estimate(options)).toEqual(estimateMemory(model, options));
      }
    });

    test('has a formula for every size', () => {
      const [at2, at12, at5] = [2, 12, 5].map((batch) => {
        const bindings = defaultBindings(model, batch, dims).dims;
        return { bindings, result: inferShapes(model, bindings) };
      });
      const formulas = at2 && at12 ? ShapeFormulas.agreedBy(at2, at12) : null;
      expect(formulas?.evaluate(at5?.bindings ?? {})).toEqual(at5?.result.shapes);
    });
  });

  test('other dimensions are not taken for the batch', () => {
    const model = gpt2(small);
    const prepared = prepareEstimate(model);
    for (const dims of [
      { sequence: 3, past_sequence: 9 },
      { sequence: 5, past_sequence: 0 },
    ]) {
      for (const batch of [2, 3]) {
        const options = { provider: 'cpu', batch, dims } as const;
        expect(prepared.estimate(options)).toEqual(estimateMemory(model, options));
      }
    }
  });

  test('batches that do not divide are inferred, not computed', () => {
    expect(formulasOf(reshaped([-1, 4, 10]))).toBeNull();
    expect(formulasOf(reshaped([-1, 2, 5]))).not.toBeNull();
    const model = reshaped([-1, 4, 10]);
    const prepared = prepareEstimate(model);
    for (const batch of [4, 8, 6]) {
      const options = { provider: 'cpu', batch, dims: {} } as const;
      expect(prepared.estimate(options)).toEqual(estimateMemory(model, options));
    }
  });

  test('a batch the graph writes down itself has no formula', () => {
    expect(formulasOf(reshaped([2, 2, 5]))).toBeNull();
  });
});
