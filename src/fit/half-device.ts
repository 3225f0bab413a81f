import { rmSync } from 'node:fs';
import path from 'node:path';
import { SnugError } from '../contract/errors.js';
import { intAttribute, makeNode } from '../onnx/graph.js';
import { DataType, type Model } from '../onnx/model.js';
import { writeModel } from '../onnx/write.js';
import type { Runtime } from '../runtime/types.js';
import type { Analysis } from './analysis.js';

/** `y = float32(h + h)` with `h = float16(x)`, x float32 `[4]`: runs where a device computes in float16. */
function halfModel(): Model {
  const value = (name: string): Model['graph']['inputs'][0] => ({ name, dataType: DataType.FLOAT, dims: [4] });
  const cast = (from: string, to: string, type: number): ReturnType<typeof makeNode> =>
    makeNode('Cast', [from], [to], { to: intAttribute(type) }, { name: to });
  return {
    ...{ irVersion: 8, producerName: 'snug', producerVersion: '', domain: '', modelVersion: 0, docString: '' },
    ...{ opsets: new Map([['', 13]]), metadata: new Map(), functions: [], unknown: [], source: null },
    graph: {
      name: 'half',
      nodes: [
        cast('x', 'half', DataType.FLOAT16),
        makeNode('Add', ['half', 'half'], ['sum'], {}, { name: 'sum' }),
        cast('sum', 'y', DataType.FLOAT),
      ],
      ...{ initializers: new Map(), sparseInitializers: [], valueInfo: new Map() },
      ...{ inputs: [value('x')], outputs: [value('y')] },
    },
  };
}

/**
 * Forbids float16 to all weights where the device of this computer is the one planned for and cannot compute in it: WebGPU
 * loads a float16 model in any case, and fails at its first run where the device lacks `shader-f16`.
 * @param directory folder for the small model that is tried; it is removed again
 */
export async function withholdHalf(analysis: Analysis, runtime: Runtime, directory: string): Promise<void> {
  const { provider } = analysis;
  if (!analysis.allows('fp16') || !(await runtime.providers()).includes(provider)) return;
  const file = path.join(directory, 'half.onnx');
  writeModel(halfModel(), file);
  try {
    const session = await runtime.open({ modelPath: file, provider });
    try {
      await session.run({ x: { dtype: 'float32', dims: [4], data: new Float32Array(4) } });
    } finally {
      await session.close();
    }
  } catch (error) {
    const { code } = SnugError.from(error);
    if (code !== 'E_RUN_FAILED' && code !== 'E_MODEL_REJECTED') throw error;
    analysis.withhold('fp16', 'the GPU of this computer, or its driver, does not compute in float16');
  } finally {
    rmSync(file, { force: true });
  }
}
