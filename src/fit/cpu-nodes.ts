import { valueBytes } from '../memory/workspace.js';
import type { Model } from '../onnx/model.js';
import { defaultBindings, inferShapes } from '../onnx/shape.js';

/** A node that could stay on the CPU, what that saves on the GPU, and what it costs in copies. */
export interface CpuNode {
  name: string;
  /** Weights that then stay in the computer's memory. */
  savedBytes: number;
  /** Inputs and outputs that cross between the two in each run. */
  copiedBytes: number;
}

/** Operators that keep their name through the runtime's optimizer, by which the provider is told of them. */
const steadyOperators = new Set(['Gather', 'GatherBlockQuantized', 'MatMulNBits']);

/** Smaller weights are not worth a copy. */
const leastSavedBytes = 64 * 1024;

/**
 * Nodes that WebGPU can be told to leave to the CPU, most weight bytes saved per byte copied first. A table of
 * embeddings comes early: its rows are all that crosses.
 *
 * @param dims sizes of named dimensions; those left out take their defaults
 */
export function cpuNodes(model: Model, batch: number, dims: Readonly<Record<string, number>>): CpuNode[] {
  const { shapes } = inferShapes(model, defaultBindings(model, batch, dims).dims);
  const { initializers, nodes } = model.graph;
  const users = new Map<string, number>();
  for (const { inputs } of nodes) for (const name of inputs) users.set(name, (users.get(name) ?? 0) + 1);
  return nodes
    .filter(({ name, opType }) => name !== '' && steadyOperators.has(opType))
    .map(({ name, inputs, outputs }): CpuNode => {
      let savedBytes = 0;
      let copiedBytes = outputs.reduce((sum, value) => sum + valueBytes(shapes, value), 0);
      for (const input of inputs) {
        const weight = initializers.get(input);
        // A weight that another node needs on the GPU would be there all the same.
        if (!weight) copiedBytes += valueBytes(shapes, input);
        else if (users.get(input) === 1) savedBytes += weight.data.byteLength;
      }
      return { name, savedBytes, copiedBytes };
    })
    .filter(({ savedBytes }) => savedBytes >= leastSavedBytes)
    .sort((a, b) => b.savedBytes / (b.copiedBytes + 1) - a.savedBytes / (a.copiedBytes + 1));
}
