import { SnugError } from '../contract/errors.js';
import { freshName, indexGraph, makeNode, nodeLabel } from '../onnx/graph.js';
import { getFloat, getInt, intsAttribute } from '../onnx/attribute.js';
import { DataType, type Graph, type Model, type Node, type Tensor } from '../onnx/model.js';
import { elementCount, float32Tensor, int64Tensor } from '../onnx/tensor.js';
import type { Parameter } from './training-graph.js';

/**
 * A low-rank change of a matrix: W + (alpha / rank)·A·B in the orientation in which the layer multiplies by it
 * (Hu et al. 2021, LoRA, section 4.1).
 */
export interface Adapter {
  /** The frozen weight: the second operand of MatMul, Gemm or Conv nodes. */
  weight: string;
  rank: number;
  alpha: number;
}

export const adapterNames = (weight: string): { down: string; up: string } => ({
  down: `${weight}/adapter_A`,
  up: `${weight}/adapter_B`,
});

/** Whether a node multiplies by `weight` in a way an adapter can follow. */
export function takesAdapter(node: Node, weight: Tensor): boolean {
  if (node.domain !== '' || node.inputs[1] !== weight.name || node.inputs[0] === weight.name) return false;
  if (node.opType === 'Conv') return weight.dims.length > 2 && getInt(node, 'group', 1) === 1;
  const isProduct = node.opType === 'MatMul' || (node.opType === 'Gemm' && getInt(node, 'transA', 0) === 0);
  return isProduct && weight.dims.length === 2;
}

/**
 * Rows and columns of a weight as a layer multiplies by it: [inputs, outputs]. The inputs of a convolution are all
 * that one position of its kernel sees.
 */
export function adapterShape(model: Model, weight: string): { inputs: number; outputs: number; transposed: boolean } {
  const tensor = model.graph.initializers.get(weight);
  const nodes = model.graph.nodes.filter((node) => node.inputs.includes(weight));
  const node = nodes[0];
  if (!tensor || !node || !nodes.every((user) => takesAdapter(user, tensor))) {
    throw new SnugError('E_NOT_SUPPORTED', `The weight "${weight}" cannot take a low-rank adapter.`, {
      action: 'Choose weights that MatMul, Gemm or a Conv without groups multiplies by (--trainable).',
      params: { weight, ...(node ? { node: nodeLabel(node) } : {}) },
    });
  }
  const [rows = 1, ...rest] = tensor.dims;
  const columns = elementCount(rest);
  const transposed = node.opType === 'Conv' || getInt(node, 'transB', 0) !== 0;
  return transposed ? { inputs: columns, outputs: rows, transposed } : { inputs: rows, outputs: columns, transposed };
}

/** Adds (alpha / rank)·(x·A)·B to the result of every layer with an adapter. @returns the parameters A and B */
export function applyAdapters(model: Model, adapters: readonly Adapter[]): Parameter[] {
  const { graph } = model;
  return adapters.flatMap(({ weight, rank, alpha }) => {
    const { inputs, outputs } = adapterShape(model, weight);
    const { down, up } = adapterNames(weight);
    const kernel = graph.initializers.get(weight)?.dims.slice(1) ?? [];
    const index = indexGraph(graph);
    for (const { node } of index.consumers.get(weight) ?? []) {
      const result = node.outputs[0] ?? '';
      const frozen = freshName(graph, `${result}/frozen`);
      const [low, change, scaled, factor] = ['low', 'change', 'scaled', 'factor'].map((part) =>
        freshName(graph, `${result}/${part}`),
      ) as [string, string, string, string];
      const strength = (alpha / rank) * (node.opType === 'Gemm' ? getFloat(node, 'alpha', 1) : 1);
      node.outputs[0] = frozen;
      graph.initializers.set(factor, float32Tensor(factor, [], Float32Array.of(strength)));
      const x = node.inputs[0] ?? '';
      if (node.opType === 'Conv') {
        // A convolution with `rank` filters of the same window, then one over single positions.
        const window = Object.fromEntries([...node.attributes].filter(([name]) => name !== 'group'));
        const first = asKernel(graph, down, [rank, ...kernel]);
        const second = asKernel(graph, up, [outputs, rank, ...kernel.slice(1).map(() => 1)]);
        graph.nodes.push(
          makeNode('Conv', [x, first], [low], window, { name: low }),
          makeNode('Conv', [low, second], [change], {}, { name: change }),
        );
      } else {
        graph.nodes.push(
          makeNode('MatMul', [x, down], [low], {}, { name: low }),
          makeNode('MatMul', [low, up], [change], {}, { name: change }),
        );
      }
      graph.nodes.push(
        makeNode('Mul', [change, factor], [scaled], {}, { name: scaled }),
        makeNode('Add', [frozen, scaled], [result], {}, { name: `${result}/adapted` }),
      );
    }
    const parameters = [
      { name: down, dims: [inputs, rank] },
      { name: up, dims: [rank, outputs] },
    ];
    for (const { name, dims } of parameters) graph.inputs.push({ name, dataType: DataType.FLOAT, dims });
    return parameters;
  });
}

/** A matrix [inputs, outputs] as the kernel of a convolution, [outputs, inputs…]. */
function asKernel(graph: Graph, matrix: string, dims: readonly number[]): string {
  const [turned, shape, kernel] = ['turned', 'shape', 'kernel'].map((part) =>
    freshName(graph, `${matrix}/${part}`),
  ) as [string, string, string];
  graph.initializers.set(shape, int64Tensor(shape, [dims.length], dims));
  graph.nodes.push(
    makeNode('Transpose', [matrix], [turned], { perm: intsAttribute([1, 0]) }, { name: turned }),
    makeNode('Reshape', [turned, shape], [kernel], {}, { name: kernel }),
  );
  return kernel;
}

/** The weight with its adapter added, row-major in its own orientation. */
export function mergeAdapter(
  weight: Float32Array,
  shape: { inputs: number; outputs: number; transposed: boolean },
  down: Float32Array,
  up: Float32Array,
  { rank, alpha }: Adapter,
): Float32Array {
  const { inputs, outputs, transposed } = shape;
  const merged = Float32Array.from(weight);
  const row = new Float64Array(outputs);
  for (let i = 0; i < inputs; i++) {
    row.fill(0);
    for (let r = 0; r < rank; r++) {
      const a = ((down[i * rank + r] ?? 0) * alpha) / rank;
      for (let o = 0; o < outputs; o++) row[o] = (row[o] ?? 0) + a * (up[r * outputs + o] ?? 0);
    }
    for (let o = 0; o < outputs; o++) {
      const at = transposed ? o * inputs + i : i * outputs + o;
      merged[at] = (merged[at] ?? 0) + (row[o] ?? 0);
    }
  }
  return merged;
}
