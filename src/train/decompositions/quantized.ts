import { getInt, intAttribute } from '../../onnx/attribute.js';
import { DataType, type Tensor } from '../../onnx/model.js';
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
import { noRule } from '../differentiate.js';

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
function computed(
  context: DecompositionContext,
  dims: readonly number[],
  like: string,
  read: () => Float32Array,
): string {
  const { builder } = context;
  const name = builder.name('dequantized');
  const dataType = builder.dataType(like);
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
    return computed(context, [rows, columns], like, () => {
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
  const values = computed(context, [rows, blocks, blockSize], like, () => codes.read());
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
  const matrix = computed(context, [rows, columns], input(0), () => {
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

/** Unpacking a stored weight whose scales are trained; everything else follows the gradient rule. */
const dequantizeLinear: Decomposition = (context) => {
  const { builder, node, input } = context;
  if (!context.needs(1)) return null;
  const codes = constant(context, input(0));
  const rank = codes.dims.length;
  const given = getInt(node, 'axis', 1);
  const axis = given < 0 ? given + rank : given;
  const blockSize = getInt(node, 'block_size', 0);
  const zeros = input(2) === '' ? null : constant(context, input(2));
  const scale = builder.extent(input(1));
  const inner = elementCount(codes.dims.slice(axis + 1));
  const size = codes.dims[axis] ?? 1;
  const blocks = blockSize > 0 ? (scale.sizes[axis] ?? 1) : 0;
  const values = computed(context, codes.dims, input(1), () => {
    const numbers = readFloat32(codes);
    if (!zeros) return numbers;
    const shift = readNumbers(zeros);
    return numbers.map((code, i) => {
      const [outer, at, rest] = [Math.floor(i / (size * inner)), Math.floor(i / inner) % size, i % inner];
      const ofBlock = (outer * blocks + Math.floor(at / Math.max(1, blockSize))) * inner + rest;
      return code - (shift[blocks > 0 ? ofBlock : shift.length === 1 ? 0 : at] ?? 0);
    });
  });
  if (blocks === 0) return [builder.mul(values, builder.alongAxis(input(1), scale, axis, rank))];
  // Each scale is repeated over its block; the last block may reach beyond the axis.
  const places = Array.from({ length: size }, (_, at) => Math.floor(at / blockSize));
  const factors = builder.emit('Gather', [input(1), builder.ints(places)], { axis: intAttribute(axis) });
  return [builder.mul(values, factors)];
};

/** Operators over quantized weights, whose codes stay as they are. */
export const quantizedDecompositions: Decompositions = {
  'com.microsoft:MatMulNBits': matMulNBits,
  'com.microsoft:MatMulBnb4': matMulBnb4,
  'com.microsoft:GatherBlockQuantized': gatherBlockQuantized,
  MatMulInteger: matMulInteger,
  ConvInteger: convInteger,
  DequantizeLinear: dequantizeLinear,
};
