import { getInt } from '../onnx/attribute.js';
import type { Provider } from '../contract/types.js';
import { DataType, type Node, type Tensor } from '../onnx/model.js';
import { operatorKey } from './inplace.js';

/** Where the bytes of the model's constants end up once a session stands. */
export interface WeightMemory {
  /** Taken from the runtime's allocator past its regions: packed weights and very small constants. */
  reserved: number;
  /** Constants kept as they are, outside of the allocator. */
  outside: number;
  /** Per constant what is held for it in all; packed copies count for the constant they were made from. */
  perTensor: Map<string, number>;
  /**
   * What packing takes from the allocator, one matrix after the other, while the model loads: the packed form (in the
   * allocator's regions when `pooled`, past them otherwise) and what is given back before the next.
   */
  packing: { packed: number; temporary: number; pooled: boolean }[];
  /** Bytes of the largest single constant, in transit while the model loads. */
  largest: number;
}

/** Constants up to this size live inside the allocator (the runtime copies them out of the file at once). */
const smallConstant = 127;

const pad16 = (count: number) => Math.ceil(count / 16) * 16;
const pad64 = (bytes: number) => Math.ceil(bytes / 64) * 64;

/** Packed float matrix: columns padded to the kernel's width of 16. */
function packedFloat(tensor: Tensor, transposed: boolean): number | null {
  if (tensor.dataType !== DataType.FLOAT || tensor.dims.length !== 2) return null;
  const [rows = 0, columns = 0] = transposed ? [...tensor.dims].reverse() : tensor.dims;
  return rows * pad16(columns) * 4;
}

/** Packed 8-bit matrix: rows padded to the dot product's depth of 4, columns to 16, one int32 sum per column. */
function packedInteger(rows: number, columns: number): number {
  return pad64(Math.ceil(rows / 4) * 4 * pad16(columns) + pad16(columns) * 4);
}

function isInteger(tensor: Tensor): boolean {
  return tensor.dataType === DataType.INT8 || tensor.dataType === DataType.UINT8;
}

/** Whether the CPU has a kernel for the codes, which it packs for; without one it unpacks the whole matrix on each run. */
export function packsNBits(node: Node): boolean {
  const [bits, block] = [getInt(node, 'bits', 4), getInt(node, 'block_size', 32)];
  if (getInt(node, 'accuracy_level', 0) !== 4) return bits === 4;
  return bits !== 2 || (block >= 32 && block <= 128);
}

/**
 * Codes as they are; level 4 adds the scales and one sum for each block, columns padded to 16, parts aligned to 64. 2-bit
 * codes are packed in groups of four blocks.
 */
function packedNBits(node: Node, tensor: Tensor): number | null {
  if (!packsNBits(node)) return null;
  if (getInt(node, 'accuracy_level', 0) !== 4) return tensor.data.byteLength;
  const columns = getInt(node, 'N', 1);
  const blocks = Math.ceil(getInt(node, 'K', 1) / getInt(node, 'block_size', 32));
  const packed = getInt(node, 'bits', 4) === 2 ? Math.ceil(blocks / 4) * 4 : blocks;
  return (tensor.data.byteLength / blocks) * packed + (columns + pad16(columns)) * packed * 4 + 2 * 63;
}

/**
 * Bytes the CPU kernel of `node` packs constant input `index` into; null when it uses the constant as it is.
 * Measured with onnxruntime 1.30 on x64.
 */
function packedOnCpu(node: Node, index: number, tensor: Tensor): number | null {
  const key = operatorKey(node);
  switch (key) {
    case 'MatMul':
    case 'com.microsoft:FusedMatMul':
      return index === 1 ? packedFloat(tensor, getInt(node, 'transB', 0) !== 0) : null;
    case 'Gemm':
    case 'com.microsoft:FusedGemm':
      return index === 1 ? packedFloat(tensor, getInt(node, 'transB', 0) !== 0) : null;
    case 'MatMulInteger':
    case 'com.microsoft:DynamicQuantizeMatMul':
    case 'com.microsoft:MatMulIntegerToFloat':
      return index === 1 ? packedMatrix(tensor, false) : null;
    case 'QLinearMatMul':
      return index === 3 ? packedMatrix(tensor, false) : null;
    case 'com.microsoft:QGemm':
      return index === 3 ? packedMatrix(tensor, getInt(node, 'transB', 0) !== 0) : null;
    case 'QLinearConv':
    case 'com.microsoft:QLinearConv':
      return index === 3 ? packedFilters(node, tensor) : null;
    case 'com.microsoft:MatMulNBits':
      return index === 1 ? packedNBits(node, tensor) : null;
    case 'ConvTranspose':
      return index === 1 && tensor.dataType === DataType.FLOAT ? tensor.data.byteLength : null;
    case 'com.microsoft:DynamicQuantizeLSTM': {
      const [directions = 1, inputs = 0, gates = 0] = tensor.dims;
      return index === 1 || index === 2 ? directions * packedInteger(inputs, gates) : null;
    }
    case 'LSTM':
    case 'GRU':
      return (index === 1 || index === 2) && tensor.dataType === DataType.FLOAT ? packedGates(tensor) : null;
    default:
      return null;
  }
}

function packedMatrix(tensor: Tensor, transposed: boolean): number | null {
  if (!isInteger(tensor) || tensor.dims.length !== 2) return null;
  const [rows = 0, columns = 0] = transposed ? [...tensor.dims].reverse() : tensor.dims;
  return packedInteger(rows, columns);
}

/** Whether an 8-bit convolution packs its filters as matrices, one for each group, instead of as they are. */
function packsMatrices(node: Node, { dims: [filters = 0, depth = 0] }: Tensor): boolean {
  return getInt(node, 'group', 1) > 1 ? depth > 1 : depth % 4 !== 0 || filters % 16 !== 0;
}

function packedFilters(node: Node, tensor: Tensor): number {
  if (!packsMatrices(node, tensor)) return tensor.data.byteLength;
  const groups = getInt(node, 'group', 1);
  const [filters = 0, ...kernel] = tensor.dims;
  return (
    groups *
    packedInteger(
      kernel.reduce((product, size) => product * size, 1),
      filters / groups,
    )
  );
}

/** How packing takes memory; most pack into exactly as much past the allocator's regions. */
function transitOf(node: Node, tensor: Tensor): { temporary: number; pooled: boolean } {
  const bytes = tensor.data.byteLength;
  switch (operatorKey(node)) {
    case 'com.microsoft:QGemm':
      // 8-bit matrices are turned around before they are packed.
      return { temporary: getInt(node, 'transB', 0) !== 0 ? bytes : 0, pooled: false };
    case 'QLinearConv':
    case 'com.microsoft:QLinearConv':
      return packsMatrices(node, tensor)
        ? { temporary: bytes / getInt(node, 'group', 1), pooled: false }
        : { temporary: 0, pooled: true };
    case 'ConvTranspose':
      return { temporary: 0, pooled: true };
    default:
      return { temporary: 0, pooled: false };
  }
}

function packedGates(tensor: Tensor): number {
  const [directions = 1, gates = 0, inputs = 0] = tensor.dims;
  return directions * inputs * pad16(gates) * 4;
}

/** Weights on the CPU: what kernels pack moves into the allocator, the rest stays as it was loaded. */
function onCpu(nodes: readonly Node[], initializers: ReadonlyMap<string, Tensor>): WeightMemory {
  const memory: WeightMemory = { reserved: 0, outside: 0, perTensor: new Map(), packing: [], largest: 0 };
  const packed = new Map<string, number>();
  const copies = new Set<string>();
  const kept = new Set<string>();
  for (const node of nodes) {
    node.inputs.forEach((name, index) => {
      const tensor = initializers.get(name);
      if (!tensor) return;
      const bytes = packedOnCpu(node, index, tensor);
      // Equal packed copies of one constant are kept once for each operator.
      const copy = `${operatorKey(node)} ${name}`;
      if (bytes === null) kept.add(name);
      else if (!copies.has(copy)) {
        copies.add(copy);
        packed.set(name, (packed.get(name) ?? 0) + bytes);
        memory.packing.push({ packed: bytes, ...transitOf(node, tensor) });
      }
    });
  }
  for (const [name, tensor] of initializers) {
    const bytes = tensor.data.byteLength;
    const copy = packed.get(name) ?? 0;
    const original = kept.has(name) ? bytes : 0;
    memory.largest = Math.max(memory.largest, bytes);
    memory.perTensor.set(name, copy + original);
    memory.reserved += copy + (bytes <= smallConstant ? original : 0);
    memory.outside += bytes <= smallConstant ? 0 : original;
  }
  return memory;
}

/** Weights on a GPU: one buffer each, at the granularity of the provider's allocator. */
function onDevice(initializers: ReadonlyMap<string, Tensor>, granularity: number): WeightMemory {
  const memory: WeightMemory = { reserved: 0, outside: 0, perTensor: new Map(), packing: [], largest: 0 };
  for (const [name, tensor] of initializers) {
    const bytes = Math.ceil(tensor.data.byteLength / granularity) * granularity;
    memory.outside += bytes;
    memory.largest = Math.max(memory.largest, bytes);
    memory.perTensor.set(name, bytes);
  }
  return memory;
}

/**
 * What the constants of a graph hold on a provider once loaded.
 * @param nodes in index order, in which their constants are packed
 */
export function weightMemory(
  provider: Provider,
  nodes: readonly Node[],
  initializers: ReadonlyMap<string, Tensor>,
): WeightMemory {
  if (provider === 'cpu') return onCpu(nodes, initializers);
  return onDevice(initializers, { cuda: 256, webgpu: 16, dml: 4, coreml: 4 }[provider]);
}
