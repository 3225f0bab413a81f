import { rmSync } from 'node:fs';
import path from 'node:path';
import { SnugError } from '../contract/errors.js';
import type { Provider } from '../contract/types.js';
import { getInt, getTensor, intAttribute, makeNode, walkGraphs } from '../onnx/graph.js';
import { DataType, type Model, type Node } from '../onnx/model.js';
import { newModel } from '../onnx/new-model.js';
import { writeModel } from '../onnx/write.js';
import type { Runtime } from '../runtime/types.js';
import type { Analysis } from './analysis.js';

const device = 'the GPU of this computer, or its driver,';

/** `y = float32(h + h)` with `h = float16(x)`, x float32 `[4]`: runs where a device computes in float16. */
function halfModel(): Model {
  const value = (name: string): Model['graph']['inputs'][0] => ({ name, dataType: DataType.FLOAT, dims: [4] });
  const cast = (from: string, to: string, type: number): ReturnType<typeof makeNode> =>
    makeNode('Cast', [from], [to], { to: intAttribute(type) }, { name: to });
  return newModel({
    name: 'half',
    opset: 13,
    nodes: [
      cast('x', 'half', DataType.FLOAT16),
      makeNode('Add', ['half', 'half'], ['sum'], {}, { name: 'sum' }),
      cast('sum', 'y', DataType.FLOAT),
    ],
    inputs: [value('x')],
    outputs: [value('y')],
  });
}

/**
 * Whether the device behind a provider computes in float16; true where it is not on this computer to be asked.
 * @param directory folder for the small model that is tried; it is removed again
 */
export async function computesHalf(runtime: Runtime, provider: Provider, directory: string): Promise<boolean> {
  if (provider === 'cpu' || !(await runtime.providers()).includes(provider)) return true;
  const file = path.join(directory, 'half.onnx');
  writeModel(halfModel(), file);
  try {
    const session = await runtime.open({ modelPath: file, provider });
    try {
      await session.run({ x: { dtype: 'float32', dims: [4], data: new Float32Array(4) } });
    } finally {
      await session.close();
    }
    return true;
  } catch (error) {
    const { code } = SnugError.from(error);
    if (code !== 'E_RUN_FAILED' && code !== 'E_MODEL_REJECTED') throw error;
    return false;
  } finally {
    rmSync(file, { force: true });
  }
}

/** Whether a node widens what it reads, so that it computes nothing in float16. */
const widens = (node: Node): boolean =>
  node.opType === 'Cast' && node.domain === '' && getInt(node, 'to', DataType.FLOAT16) !== DataType.FLOAT16;

/**
 * Whether a model computes in float16 as it is: by its inputs and outputs, or by constants that some operator reads as
 * they are. Constants that are only stored so and cast to another type, as scales of 4-bit weights are, do not count.
 */
export function holdsHalf({ graph }: Model): boolean {
  const half = (value: { dataType: number } | null): boolean => value?.dataType === DataType.FLOAT16;
  if ([...graph.inputs, ...graph.outputs].some(half)) return true;
  const stored = new Set<string>();
  const read = new Set<string>();
  walkGraphs(graph, ({ nodes, initializers }) => {
    for (const tensor of initializers.values()) if (half(tensor)) stored.add(tensor.name);
    for (const node of nodes) {
      if (node.opType === 'Constant' && half(getTensor(node, 'value'))) stored.add(node.outputs[0]!);
      if (!widens(node)) for (const input of node.inputs) read.add(input);
    }
  });
  return [...stored].some((name) => read.has(name));
}

/**
 * Holds a model against what the device of this computer computes in, before any work: WebGPU loads a float16 model in
 * any case, and fails at its first run where the device lacks `shader-f16`. Where it does, float16 is forbidden to all
 * weights.
 * @param directory folder for the small model that is tried; it is removed again
 * @throws SnugError E_NOT_SUPPORTED when the model is a float16 one already
 */
export async function withholdHalf(analysis: Analysis, runtime: Runtime, directory: string): Promise<void> {
  const { provider, model } = analysis;
  const already = holdsHalf(model);
  if (!already && !analysis.allows('fp16')) return;
  if (await computesHalf(runtime, provider, directory)) return;
  if (already) {
    throw new SnugError('E_NOT_SUPPORTED', `This model computes in float16, which ${device} does not.`, {
      action: 'Use a float32 export of the model, or another --provider.',
      params: { provider },
    });
  }
  forbidHalf(analysis);
}

/** Forbids float16 to all weights, as on a device that was found not to compute in it. */
export function forbidHalf(analysis: Analysis): void {
  analysis.withhold('fp16', `${device} does not compute in float16`);
}
