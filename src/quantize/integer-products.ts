import { randomUUID } from 'node:crypto';
import { rmSync } from 'node:fs';
import path from 'node:path';
import { makeNode } from '../onnx/graph.js';
import { DataType, type Model } from '../onnx/model.js';
import { newModel } from '../onnx/new-model.js';
import { rawTensor } from '../onnx/tensor.js';
import { writeModel } from '../onnx/write.js';
import type { Dtype } from '../contract/types.js';
import type { Runtime } from '../runtime/types.js';
import { roundsActivations } from './passes.js';

/** Rows, inputs and columns of the product that is tried: enough for the kernels that models get. */
const [rows, depth, columns] = [4, 256, 32];
/** Largest uint8 and int8: two products of them are more than 16 bits hold. */
const [largestInput, largestWeight] = [255, 127];

/** `y = x · w`, x uint8 `[4, 256]`, w int8 `[256, 32]`, all 127; y int32. */
function productModel(): Model {
  const weight = new Uint8Array(depth * columns).fill(largestWeight);
  return newModel({
    name: 'product',
    opset: 13,
    nodes: [makeNode('MatMulInteger', ['x', 'w'], ['y'], {}, { name: 'y' })],
    weights: [rawTensor('w', DataType.INT8, [depth, columns], weight)],
    inputs: [{ name: 'x', dataType: DataType.UINT8, dims: [rows, depth] }],
    outputs: [{ name: 'y', dataType: DataType.INT32, dims: [rows, columns] }],
  });
}

const known = new WeakMap<Runtime, Promise<boolean>>();

/**
 * Whether products of uint8 activations and int8 weights come out wrong on this computer's CPU: x86 processors without
 * VNNI add pairs of them in 16 bits and cut the sum off (onnxruntime, "Quantize ONNX models", on `reduce_range`). Asked
 * by one product whose result is known, once for each runtime. uint8 weights are added up exactly everywhere, at less
 * than half the speed where VNNI would have been.
 * @param directory folder for the model that is tried; it is removed again
 * @throws SnugError of the runtime
 */
export function cutsOffProducts(runtime: Runtime, directory: string): Promise<boolean> {
  let asked = known.get(runtime);
  if (asked === undefined) {
    asked = tryProduct(runtime, directory).catch((error: unknown) => {
      // A failure says nothing about the CPU: whoever asks next tries again.
      known.delete(runtime);
      throw error;
    });
    known.set(runtime, asked);
  }
  return asked;
}

/** As {@link cutsOffProducts}, asked only where a weight would be multiplied in integers. */
export async function needsUnsignedWeights(
  runtime: Runtime,
  dtypes: Iterable<Dtype>,
  directory: string,
): Promise<boolean> {
  return [...dtypes].some(roundsActivations) && (await cutsOffProducts(runtime, directory));
}

async function tryProduct(runtime: Runtime, directory: string): Promise<boolean> {
  const file = path.join(directory, `product-${randomUUID()}.onnx`);
  writeModel(productModel(), file);
  try {
    const session = await runtime.open({ modelPath: file, provider: 'cpu' });
    try {
      const x = new Uint8Array(rows * depth).fill(largestInput);
      const { y } = await session.run({ x: { dtype: 'uint8', dims: [rows, depth], data: x } });
      return (y?.data as Int32Array).some((sum) => sum !== depth * largestInput * largestWeight);
    } finally {
      await session.close();
    }
  } finally {
    rmSync(file, { force: true });
  }
}
