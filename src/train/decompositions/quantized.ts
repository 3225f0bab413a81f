import { getInt, intAttribute } from '../../onnx/attribute.js';
import { DataType, type Graph, type Node, type Tensor } from '../../onnx/model.js';
import { normalLevels } from '../../onnx/normal-levels.js';
import {
  computedData,
  elementCount,
  encodeFloats,
  readFloat32,
  readNumbers,
  tensorByteLength,
} from '../../onnx/tensor.js';
import type { Decomposition, DecompositionContext, Decompositions } from '../decompose.js';
import { noRule, operatorKey } from '../differentiate.js';
import type { GraphBuilder } from '../graph-builder.js';

/** Codes of a matrix in blocks along its rows, with the zero points taken off. */
interface BlockCodes {
  rows: number;
  /** Columns that mean something; the last block may reach beyond. */
  columns: number;
  blocks: number;
  blockSize: number;
  /** Row-major `[rows, blocks · blockSize]`. */
  read(): Float32Array;
}

/** An initializer the node cannot be understood without. */
function constant({ builder, node }: DecompositionContext, name: string): Tensor {
  const tensor = builder.graph.initializers.get(name);
  if (!tensor) throw noRule(node, 'its codes are not stored in the model');
  return tensor;
}

/** Adds a floating-point initializer whose bytes are computed while the model is written. */
function computed(builder: GraphBuilder, dims: readonly number[], dataType: number, read: () => Float32Array): string {
  const name = builder.name('dequantized');
  const data = computedData(tensorByteLength(dataType, dims), () => encodeFloats(read(), dataType));
  builder.graph.initializers.set(name, { name, dataType, dims: [...dims], data });
  return builder.setExtent(name, { sizes: dims, open: dims.map(() => false) });
}

/**
 * The matrix behind codes and scales, `[rows, columns]`: one initializer, or the product of codes and scales where the
 * scales are trained.
 */
function blockMatrix(context: DecompositionContext, codes: BlockCodes, scales: string, like: string): string {
  const { builder } = context;
  const { rows, columns, blocks, blockSize } = codes;
  const stored = builder.graph.initializers.get(scales);
  if (stored) {
    return computed(builder, [rows, columns], builder.dataType(like), () => {
      const [values, factors] = [codes.read(), readFloat32(stored)];
      const result = new Float32Array(rows * columns);
      for (let row = 0; row < rows; row++) {
        for (let column = 0; column < columns; column++) {
          const factor = factors[row * blocks + Math.floor(column / blockSize)] ?? 0;
          result[row * columns + column] = (values[row * blocks * blockSize + column] ?? 0) * factor;
        }
      }
      return result;
    });
  }
  const values = computed(builder, [rows, blocks, blockSize], builder.dataType(like), () => codes.read());
  const factors = builder.reshape(scales, [rows, blocks, 1]);
  const typed =
    builder.dataType(scales) === builder.dataType(like) ? factors : builder.cast(factors, builder.dataType(like));
  const whole = builder.reshape(builder.mul(values, typed), [rows, blocks * blockSize]);
  return blocks * blockSize === columns
    ? whole
    : builder.emit('Slice', [whole, builder.ints([0]), builder.ints([columns]), builder.ints([1])]);
}

/** Code `index` of bytes that hold 8 / `bits` codes each, low bits first. */
const codeAt = (bytes: Uint8Array, index: number, bits: number): number =>
  ((bytes[Math.floor((index * bits) / 8)] ?? 0) >> ((index * bits) % 8)) & (2 ** bits - 1);

/** com.microsoft.MatMulNBits (onnxruntime ContribOperators.md): Y = A·((codes − zero points)·scales)ᵀ + bias. */
const matMulNBits: Decomposition = (context) => {
  const { builder, node, input } = context;
  if (!context.needs(0) && !context.needs(2) && !context.needs(5)) return null;
  const bits = getInt(node, 'bits', 4);
  if (bits !== 2 && bits !== 4 && bits !== 8) throw noRule(node, `codes of ${bits} bits are not known`);
  if (input(4) !== '') throw noRule(node, 'its columns are in another order (g_idx)');
  const [rows, columns, blockSize] = [getInt(node, 'N', 0), getInt(node, 'K', 0), getInt(node, 'block_size', 32)];
  const blocks = Math.ceil(columns / blockSize);
  const stored = constant(context, input(1));
  const zeroPoints = input(3) === '' ? null : constant(context, input(3));
  const zeroBytes = Math.ceil((blocks * bits) / 8);
  const matrix = blockMatrix(
    context,
    {
      rows,
      columns,
      blocks,
      blockSize,
      read: () => {
        const bytes = stored.data.read();
        const packed = zeroPoints?.dataType === DataType.UINT8 ? zeroPoints.data.read() : null;
        const floats = zeroPoints && !packed ? readFloat32(zeroPoints) : null;
        return Float32Array.from({ length: rows * blocks * blockSize }, (_, i) => {
          const block = Math.floor(i / blockSize);
          // Packed zero points begin each row with a byte of their own.
          const place = Math.floor(block / blocks) * zeroBytes * (8 / bits) + (block % blocks);
          const zero = packed ? codeAt(packed, place, bits) : (floats?.[block] ?? 2 ** (bits - 1));
          return codeAt(bytes, i, bits) - zero;
        });
      },
    },
    input(2),
    input(0),
  );
  const product = builder.emit('MatMul', [input(0), builder.transpose(matrix, [1, 0])]);
  return [input(5) === '' ? product : builder.add(product, input(5))];
};

/** com.microsoft.MatMulBnb4 of NF4: Y = A·(levels[codes]·scales)ᵀ, in blocks that run on from row to row. */
const matMulBnb4: Decomposition = (context) => {
  const { builder, node, input } = context;
  if (getInt(node, 'quant_type', 1) !== 1) throw noRule(node, 'its codes are not NF4');
  const [rows, columns, blockSize] = [getInt(node, 'N', 0), getInt(node, 'K', 0), getInt(node, 'block_size', 64)];
  // Scales may be stored in half precision and cast.
  const cast = builder.graph.nodes.find(({ opType, outputs }) => opType === 'Cast' && outputs[0] === input(2));
  const [codes, scales] = [constant(context, input(1)), constant(context, cast?.inputs[0] ?? input(2))];
  const matrix = computed(builder, [rows, columns], builder.dataType(input(0)), () => {
    const [bytes, factors] = [codes.data.read(), readFloat32(scales)];
    // The even element is in the high half of its byte.
    return Float32Array.from({ length: rows * columns }, (_, i) => {
      const level = normalLevels[codeAt(bytes, i ^ 1, 4)] ?? 0;
      return level * (factors[Math.floor(i / blockSize)] ?? 0);
    });
  });
  return [builder.emit('MatMul', [input(0), builder.transpose(matrix, [1, 0])])];
};

/** com.microsoft.GatherBlockQuantized over the rows of a table. */
const gatherBlockQuantized: Decomposition = (context) => {
  const { builder, node, input } = context;
  const table = constant(context, input(0));
  const isPacked = table.dataType === DataType.UINT8;
  const bits = isPacked ? getInt(node, 'bits', 4) : 4;
  const [rows = 0, stride = 0] = table.dims;
  const isRows = table.dims.length === 2 && getInt(node, 'gather_axis', 0) === 0;
  const quantizeAxis = getInt(node, 'quantize_axis', 1);
  if (!isRows || (quantizeAxis !== 1 && quantizeAxis !== -1) || input(3) !== '') {
    throw noRule(node, 'only tables of symmetric codes, quantized along their rows, are known');
  }
  const blockSize = getInt(node, 'block_size', 128);
  const columns = isPacked ? (stride * 8) / bits : stride;
  const blocks = Math.ceil(columns / blockSize);
  // Only codes packed in bytes stand for numbers around their middle (onnxruntime 1.30).
  const zero = isPacked ? 2 ** (bits - 1) : 0;
  const codes: BlockCodes = {
    ...{ rows, columns, blocks, blockSize },
    read: () => {
      const bytes = isPacked ? table.data.read() : null;
      const numbers = bytes ? null : readFloat32(table);
      const padded = new Float32Array(rows * blocks * blockSize);
      for (let row = 0; row < rows; row++) {
        for (let column = 0; column < columns; column++) {
          const at = row * columns + column;
          const code = bytes ? codeAt(bytes, at, bits) : (numbers?.[at] ?? 0);
          padded[row * blocks * blockSize + column] = code - zero;
        }
      }
      return padded;
    },
  };
  return [builder.emit('Gather', [blockMatrix(context, codes, input(2), input(2)), input(1)])];
};

/** Codes as floating-point numbers without their zero point, which is one number or one for each place of an axis. */
function centred({ builder }: DecompositionContext, codes: string, zeroPoint: string, axis: number): string {
  const values = builder.cast(codes, DataType.FLOAT);
  if (zeroPoint === '' || builder.numbers(zeroPoint)?.every((value) => value === 0)) return values;
  const shift = builder.cast(zeroPoint, DataType.FLOAT);
  return builder.sub(values, builder.alongAxis(shift, builder.extent(zeroPoint), axis, builder.rank(codes)));
}

/** Only what is turned into floating-point numbers afterwards can be floating-point numbers already. */
function requireCasts({ builder, node }: DecompositionContext): void {
  const readers = builder.graph.nodes.filter(({ inputs }) => inputs.includes(node.outputs[0] ?? ''));
  if (!readers.every(({ opType }) => opType === 'Cast')) throw noRule(node, 'its sums are used as integers');
}

/** The product of integers as a product of the same numbers in floating point. */
const matMulInteger: Decomposition = (context) => {
  const { builder, input } = context;
  requireCasts(context);
  const rankA = builder.rank(input(0));
  const a = centred(context, input(0), input(2), rankA - 2);
  return [builder.emit('MatMul', [a, centred(context, input(1), input(3), builder.rank(input(1)) - 1)])];
};

const convInteger: Decomposition = (context) => {
  const { builder, node, input } = context;
  requireCasts(context);
  const [x, weight] = [centred(context, input(0), input(2), 0), centred(context, input(1), input(3), 0)];
  return [builder.emit('Conv', [x, weight], Object.fromEntries(node.attributes))];
};

/** Codes of a DequantizeLinear, the axis its scales lie along, and the places of that axis one scale is for (0 = one). */
interface LinearCodes {
  codes: Tensor;
  zeros: Tensor | null;
  axis: number;
  blockSize: number;
  /** Scales along the axis; 0 without blocks. */
  blocks: number;
}

function linearCodes(node: Node, codes: Tensor, zeros: Tensor | null, scaleDims: readonly number[]): LinearCodes {
  const given = getInt(node, 'axis', 1);
  const axis = given < 0 ? given + codes.dims.length : given;
  const blockSize = getInt(node, 'block_size', 0);
  return { codes, zeros, axis, blockSize, blocks: blockSize > 0 ? (scaleDims[axis] ?? 1) : 0 };
}

/** Where the scale and the zero point of element `i` of the codes are, of `length` that there are. */
function scalePlace({ codes, axis, blockSize, blocks }: LinearCodes, length: number): (i: number) => number {
  if (blocks === 0 && length === 1) return () => 0;
  const inner = elementCount(codes.dims.slice(axis + 1));
  const size = codes.dims[axis] ?? 1;
  if (blocks === 0) return (i) => Math.floor(i / inner) % size;
  return (i) => {
    const at = Math.floor(i / inner) % size;
    return (Math.floor(i / (size * inner)) * blocks + Math.floor(at / blockSize)) * inner + (i % inner);
  };
}

/** The codes with their zero points taken off. */
function centredCodes(linear: LinearCodes): Float32Array {
  const numbers = readFloat32(linear.codes);
  if (!linear.zeros) return numbers;
  const shift = readNumbers(linear.zeros);
  const place = scalePlace(linear, shift.length);
  return numbers.map((code, i) => code - (shift[place(i)] ?? 0));
}

/** Unpacking a stored weight whose scales are trained; everything else follows the gradient rule. */
const dequantizeLinear: Decomposition = (context) => {
  const { builder, node, input } = context;
  if (!context.needs(1)) return null;
  const codes = constant(context, input(0));
  const scale = builder.extent(input(1));
  const linear = linearCodes(node, codes, input(2) === '' ? null : constant(context, input(2)), scale.sizes);
  const { axis, blockSize } = linear;
  const values = computed(builder, codes.dims, builder.dataType(input(1)), () => centredCodes(linear));
  if (blockSize === 0) return [builder.mul(values, builder.alongAxis(input(1), scale, axis, codes.dims.length))];
  // Each scale is repeated over its block; the last block may reach beyond the axis.
  const places = Array.from({ length: codes.dims[axis] ?? 1 }, (_, at) => Math.floor(at / blockSize));
  const factors = builder.emit('Gather', [input(1), builder.ints(places)], { axis: intAttribute(axis) });
  return [builder.mul(values, factors)];
};

/**
 * Stores the weights that a DequantizeLinear unpacks and nothing trains as the floating-point numbers they stand for,
 * in place. A backward pass reads all of them again, so they would be held beside their codes in any case, and the
 * runtime would unpack them anew in every run.
 */
export function unpackFrozenWeights(graph: Graph): void {
  const widened = new Map(graph.nodes.filter(({ opType }) => opType === 'Cast').map((cast) => [cast.outputs[0], cast]));
  graph.nodes = graph.nodes.filter((node) => {
    if (operatorKey(node) !== 'DequantizeLinear') return true;
    const [codes, stored, zeros] = node.inputs.map((name) => graph.initializers.get(name));
    const [name = ''] = node.outputs;
    // Scales may be stored in half precision.
    const cast = stored ? undefined : widened.get(node.inputs[1]);
    const scale = stored ?? graph.initializers.get(cast?.inputs[0] ?? '');
    if (!codes || !integerCodes.has(codes.dataType) || !scale || (!zeros && (node.inputs[2] ?? '') !== '')) return true;
    if (graph.outputs.some((output) => output.name === name)) return true;
    const linear = linearCodes(node, codes, zeros ?? null, scale.dims);
    const dataType = cast ? getInt(cast, 'to', DataType.FLOAT) : scale.dataType;
    const data = computedData(tensorByteLength(dataType, codes.dims), () => {
      const [numbers, factors] = [centredCodes(linear), readFloat32(scale)];
      const place = scalePlace(linear, factors.length);
      return encodeFloats(
        numbers.map((code, i) => code * (factors[place(i)] ?? 0)),
        dataType,
      );
    });
    graph.initializers.set(name, { name, dataType, dims: [...codes.dims], data });
    return false;
  });
}

/** Element types of codes; eight-bit floating-point numbers are left to the runtime. */
const integerCodes: ReadonlySet<number> = new Set([
  DataType.INT4,
  DataType.UINT4,
  DataType.INT8,
  DataType.UINT8,
  DataType.INT16,
  DataType.UINT16,
  DataType.INT32,
]);

/** Operators over quantized weights, whose codes stay as they are. */
export const quantizedDecompositions: Decompositions = {
  'com.microsoft:MatMulNBits': matMulNBits,
  'com.microsoft:MatMulBnb4': matMulBnb4,
  'com.microsoft:GatherBlockQuantized': gatherBlockQuantized,
  MatMulInteger: matMulInteger,
  ConvInteger: convInteger,
  DequantizeLinear: dequantizeLinear,
};
