import { DataType, type Node, type Tensor } from '../onnx/model.js';
import { elementCount } from '../onnx/tensor.js';
import { operatorKey } from './inplace.js';

/** Inputs that WebGPU kernels read on the CPU: sizes, axes, bounds. */
const hostSlots: Readonly<Record<string, readonly number[]>> = {
  Reshape: [1],
  Expand: [1],
  Tile: [1],
  Slice: [1, 2, 3, 4],
  Squeeze: [1],
  Unsqueeze: [1],
  Split: [1],
  Clip: [1, 2],
  Pad: [1, 2, 3],
  Resize: [1, 2, 3],
  Upsample: [1],
  TopK: [1],
  CumSum: [1],
  Trilu: [1],
  Range: [0, 1, 2],
  OneHot: [1],
  ConstantOfShape: [0],
  ReduceMean: [1],
  ReduceSum: [1],
  ReduceMax: [1],
  ReduceMin: [1],
  ReduceProd: [1],
  ReduceL1: [1],
  ReduceL2: [1],
  ReduceLogSum: [1],
  ReduceLogSumExp: [1],
  ReduceSumSquare: [1],
};
const noSlots: ReadonlySet<number> = new Set();
const slotSets = new Map(Object.entries(hostSlots).map(([key, slots]) => [key, new Set(slots)]));

export function hostInputs(node: Node): ReadonlySet<number> {
  return slotSets.get(operatorKey(node)) ?? noSlots;
}

/** Operators without a WebGPU kernel in onnxruntime 1.30: they run on the CPU, with copies there and back. */
const cpuOnly = new Set(
  (
    'DynamicQuantizeLinear QuantizeLinear MatMulInteger ConvInteger QLinearConv QLinearMatMul LSTM GRU RNN Hardmax ' +
    'NonZero Unique NonMaxSuppression RoiAlign EyeLike Multinomial RandomNormal RandomUniform Compress Det Mod ' +
    'com.microsoft:DynamicQuantizeMatMul com.microsoft:MatMulIntegerToFloat com.microsoft:QLinearAdd com.microsoft:QGemm'
  ).split(' '),
);

/** Constants of up to this many elements may move a node to the CPU. */
const smallConstant = 100;

function usesLarge(node: Node, initializers: ReadonlyMap<string, Tensor>): boolean {
  return node.inputs.some((name) => elementCount(initializers.get(name)?.dims ?? []) > smallConstant);
}

/** These move data of any type, but have no kernel for truth values. */
const movers = new Set([
  'Slice',
  'Gather',
  'GatherElements',
  'GatherND',
  'Concat',
  'Split',
  'Tile',
  'Pad',
  'Transpose',
]);

export interface Placement {
  /** Values that live in the memory of the computer. */
  host: ReadonlySet<string>;
  hostNodes: ReadonlySet<Node>;
  /** Nodes on the CPU that need a value of the device. */
  readsBack: ReadonlySet<Node>;
  /** Constants some kernel on the device reads. */
  deviceWeights: ReadonlySet<string>;
  /** Constants with exactly one user. */
  soleUser: ReadonlySet<string>;
}

/**
 * Which nodes and values stay with the CPU when the provider is WebGPU: sizes of values and what is computed from
 * nothing but them, and operators the provider lacks.
 * @param nodes in execution order
 * @param left names of nodes the session leaves to the CPU (`SessionLevers.cpuNodes`)
 */
export function placeNodes(
  nodes: readonly Node[],
  initializers: ReadonlyMap<string, Tensor>,
  graphInputs: readonly string[],
  dataTypeOf: (value: string) => number,
  left: ReadonlySet<string> = new Set(),
): Placement {
  const host = new Set<string>();
  const hostNodes = new Set<Node>();
  const readsBack = new Set<Node>();
  const users = new Map<string, number>();
  const deviceWeights = new Set<string>();
  for (const node of nodes) {
    const key = operatorKey(node);
    const values = node.inputs.filter((name) => name !== '' && !initializers.has(name));
    const sized = key === 'Shape' || key === 'Size';
    const fromSizes = values.length > 0 && values.every((name) => host.has(name)) && !usesLarge(node, initializers);
    const missing =
      left.has(node.name) ||
      cpuOnly.has(key) ||
      (movers.has(key) && dataTypeOf(node.outputs[0] ?? '') === DataType.BOOL);
    const onHost = sized || fromSizes || missing;
    if (onHost) {
      hostNodes.add(node);
      for (const name of node.outputs) host.add(name);
      if (missing && values.some((name) => !host.has(name))) readsBack.add(node);
    }
    node.inputs.forEach((name, slot) => {
      users.set(name, (users.get(name) ?? 0) + 1);
      if (!onHost && initializers.has(name) && !hostInputs(node).has(slot)) deviceWeights.add(name);
    });
  }
  const deviceUse = new Set(
    nodes.flatMap((node) => (hostNodes.has(node) ? [] : node.inputs.filter((_, slot) => !hostInputs(node).has(slot)))),
  );
  for (const name of graphInputs) if (!deviceUse.has(name)) host.add(name);
  const soleUser = new Set([...users].filter(([, count]) => count === 1).map(([name]) => name));
  return { host, hostNodes, readsBack, deviceWeights, soleUser };
}
