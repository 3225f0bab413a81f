import { describe, expect, it } from 'vitest';
import { compareModels } from '../../../src/app/compare.js';
import type { OpenedModel } from '../../../src/app/open.js';
import type { ModelSummary } from '../../../src/contract/types.js';
import type { Runtime, RuntimeValue } from '../../../src/runtime/types.js';

const input = (name: string, dims: RuntimeValue['dims'], dtype = 'float32'): RuntimeValue => ({ name, dtype, dims });

function opened(name: string, inputs: RuntimeValue[], outputs = ['y']): OpenedModel {
  const batchDimension = inputs.some(({ dims }) => dims[0] === 'batch') ? 'batch' : null;
  const summary: Partial<ModelSummary> = {
    ...{ name, batchDimension, dimensions: batchDimension === null ? [] : [batchDimension] },
    outputs: outputs.map((output) => ({ name: output, dtype: 'float32', dims: ['batch', 2] })),
  };
  return { path: name, summary, inputs } as OpenedModel;
}

const original = opened('a.onnx', [input('x', ['batch', 4])]);
/** Not reached: whatever does not fit is told before anything runs. */
const runtime = { open: () => Promise.reject(new Error('ran')) } as Partial<Runtime> as Runtime;

const compare = (result: OpenedModel): Promise<unknown> =>
  compareModels({
    ...{ original, result, dataset: null, labels: null, batch: 8, dims: {}, provider: 'cpu', runtime },
    signal: new AbortController().signal,
  });

describe('two models to compare', () => {
  it.each([
    ['b.onnx has no input "x", a.onnx has.', opened('b.onnx', [input('z', ['batch', 4])])],
    ['a.onnx has no input "mask"', opened('b.onnx', [input('x', ['batch', 4]), input('mask', ['batch', 4])])],
    ['b.onnx has no output "y"', opened('b.onnx', [input('x', ['batch', 4])], ['logits'])],
    ['is float32 [batch, 4] in a.onnx, float32 [1, 4] in b.onnx', opened('b.onnx', [input('x', [1, 4])])],
    ['is float32 [batch, 4] in a.onnx, float32 [batch, 8] in b.onnx', opened('b.onnx', [input('x', ['batch', 8])])],
    ['float16 [batch, 4] in b.onnx', opened('b.onnx', [input('x', ['batch', 4], 'float16')])],
  ])('are refused: %s', async (message, result) => {
    await expect(compare(result)).rejects.toMatchObject({
      code: 'E_USAGE',
      message: expect.stringContaining(message) as string,
      action: expect.stringMatching(/^(?:Compare|Export)/u) as string,
    });
  });

  it('are run when they take the same, whatever their sizes are called', async () => {
    const other = opened('b.onnx', [input('x', ['batch', 'width'])], ['y', 'more']);
    await expect(compare(other)).rejects.toThrow('ran');
  });
});
