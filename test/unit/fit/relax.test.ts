import * as ort from 'onnxruntime-node';
import { describe, expect, it } from 'vitest';
import { relaxDims } from '../../../src/fit/relax.js';
import { cloneModel, makeNode } from '../../../src/onnx/graph.js';
import type { Model } from '../../../src/onnx/model.js';
import { DataType } from '../../../src/onnx/model.js';
import { serializeModel } from '../../../src/onnx/write.js';

function reluModel(dims: (number | string | null)[], name = 'x'): Model {
  return {
    irVersion: 8,
    producerName: '',
    producerVersion: '',
    domain: '',
    modelVersion: 0,
    docString: '',
    opsets: new Map([['', 17]]),
    graph: {
      name: 'g',
      nodes: [makeNode('Relu', [name], ['y'])],
      initializers: new Map(),
      sparseInitializers: [],
      inputs: [{ name, dataType: DataType.FLOAT, dims }],
      outputs: [{ name: 'y', dataType: DataType.FLOAT, dims }],
      valueInfo: new Map(),
    },
    metadata: new Map(),
    functions: [],
    unknown: [],
    source: null,
  };
}

describe('relaxDims', () => {
  it('keeps answers, input names and the original object', async () => {
    const model = reluModel(['batch', 3, 'width']);
    const before = serializeModel(cloneModel(model));
    const relaxed = relaxDims(model);
    expect(relaxed).not.toBeNull();
    expect(serializeModel(model)).toEqual(before);
    const session = await ort.InferenceSession.create(serializeModel(relaxed!));
    expect(session.inputNames).toEqual(['x']);
    const x = Float32Array.from({ length: 2 * 3 * 4 }, (_, i) => i - 10);
    const { y } = await session.run({ x: new ort.Tensor('float32', x, [2, 3, 4]) });
    expect(y.dims).toEqual([2, 3, 4]);
    expect(Array.from(y.data as Float32Array)).toEqual(Array.from(x, (v) => Math.max(0, v)));
  });

  it('leaves a fixed batch, a vector and a cache that may be empty alone', () => {
    expect(relaxDims(reluModel([4, 3]))).toBeNull();
    expect(relaxDims(reluModel(['n']))).toBeNull();
    expect(relaxDims(reluModel(['batch', 2, 'past', 8], 'past_key_values.0.key'))).toBeNull();
  });
});
