import type { Dtype, Provider, WeightFormat } from '../contract/types.js';
import type { Model } from '../onnx/model.js';
import { elementCount } from '../onnx/tensor.js';
import { channelAxis, summedAxis } from './axes.js';
import { blockMatrixSize, blocksPerRow, type BlockFormat } from './block-matrix.js';
import type { CodeBits } from './block-search.js';
import { holdsInfinities } from './finite.js';
import { floatBytes } from './floats.js';
import type { WeightMatrix } from './matrix.js';
import { normalFloatSize } from './normal-float.js';
import { obstacleOf } from './obstacles.js';
import { storedScaleType, zeroPointsPay } from './sample.js';
import type { WeightSite, WeightUse } from './sites.js';
import { truth, type Encoding } from './truth.js';

/** What would become of one weight in one number format on one execution provider. */
export interface EncodingPlan {
  allowed: boolean;
  /** One for each use, `none` when not allowed. */
  encodings: Encoding[];
  /** Bytes in the model: codes, scales, zero points. */
  bytesAfter: number;
  /** Bytes held between runs by the provider (packed copies included), as far as known. */
  residentBytes: number;
  /** Bytes of the full-precision copy that exists while the operator runs. */
  transientBytes: number;
  needsSamples: boolean;
  /** Why not, or what to know. */
  reason?: string;
}

const notAllowed = (bytes: number, reason: string): EncodingPlan => ({
  allowed: false,
  encodings: [],
  bytesAfter: bytes,
  residentBytes: bytes,
  transientBytes: 0,
  needsSamples: false,
  reason,
});

/** Decides whether and how a weight can be held in a number format; the single place that knows. */
export function planEncoding(model: Model, site: WeightSite, format: WeightFormat, provider: Provider): EncodingPlan {
  const { dtype } = format;
  const before = site.tensor.data.byteLength;
  if (dtype === 'fp32') {
    return { ...notAllowed(before, ''), allowed: true, encodings: site.uses.map(() => 'none'), reason: '' };
  }
  if (site.fixed !== null && dtype !== 'fp16') return notAllowed(before, site.fixed);
  if (site.uses.length === 0) return notAllowed(before, 'no operator uses it');
  const notes = new Set<string>();
  const encodings: Encoding[] = [];
  const sizes = new Map<string, Size>();
  let needsSamples = false;
  for (const use of site.uses) {
    const row = truth[provider][dtype][use.role];
    if (!row.allowed) return notAllowed(before, `${use.node.opType}: ${row.note ?? 'not possible'}`);
    const obstacle = obstacleOf(model, site, use, row.encoding, dtype);
    if (obstacle !== null) return notAllowed(before, `${use.node.opType}: ${obstacle}`);
    if (row.note !== undefined) notes.add(row.note);
    needsSamples ||= row.needsSamples === true;
    encodings.push(row.encoding);
    const size = sizeOf(site, use, row.encoding, format, provider);
    sizes.set(size.shares, size);
  }
  if (dtype !== 'fp16' && holdsInfinities(site.tensor)) {
    return notAllowed(before, 'it holds values that are infinite or no numbers (NaN)');
  }
  const total = { bytesAfter: 0, residentBytes: 0, transientBytes: 0 };
  for (const size of sizes.values()) {
    total.bytesAfter += size.stored;
    total.residentBytes += size.resident;
    total.transientBytes = Math.max(total.transientBytes, size.transient);
  }
  if (total.bytesAfter >= before) return notAllowed(before, 'with its scales it would not get smaller');
  const note = [...notes].join('; ');
  return { allowed: true, encodings, ...total, needsSamples, ...(note === '' ? {} : { reason: note }) };
}

interface Size {
  /** Uses with the same key share their bytes. */
  shares: string;
  stored: number;
  resident: number;
  transient: number;
}

function sizeOf(site: WeightSite, use: WeightUse, encoding: Encoding, asked: WeightFormat, provider: Provider): Size {
  const { tensor } = site;
  const { dtype, blockSize } = asked;
  const elements = elementCount(tensor.dims);
  // Scales in the file, and widened in memory.
  const [scaleBytes, wideBytes] = [storedScaleType(tensor).bytes, floatBytes(tensor.dataType)!];
  switch (encoding) {
    case 'MatMulNBits': {
      const matrix = matrixOf(site, use);
      const format = blockFormatOf(matrix, asked, provider);
      const size = blockMatrixSize(matrix.rows, matrix.columns, format);
      const packed = size.codes + size.zeroPoints;
      // At level 4 the CPU packs codes with two more float32 copies of the scales, at level 0 codes alone.
      const twice = provider === 'cpu' && accuracyLevel(provider, format.bits) === 4;
      const blocks = twice ? packedBlocks(matrix.columns, format.bits, format.blockSize) : 0;
      const padding = blocks === 0 ? 1 : blocks / blocksPerRow(matrix.columns, format.blockSize);
      return {
        shares: `nbits ${matrix.order}`,
        stored: packed + size.scales * (format.halfScales === true ? 2 : wideBytes),
        resident: size.codes * padding + size.zeroPoints + size.scales * wideBytes + 2 * matrix.rows * blocks * 4,
        transient: 0,
      };
    }
    case 'MatMulBnb4': {
      const { codes, scales } = normalFloatSize(elements);
      const order = matrixOf(site, use).order;
      const resident = codes + scales * wideBytes;
      return { shares: `nf4 ${order}`, stored: codes + scales * scaleBytes, resident, transient: elements * 4 };
    }
    case 'GatherBlockQuantized': {
      const bits = blockBits(dtype);
      const block = gatherBlock(tensor.dims[1]!, bits, blockSize);
      const packed = Math.ceil((elements * bits) / 8);
      const scales = tensor.dims[0]! * blocksPerRow(tensor.dims[1]!, block);
      return {
        shares: 'gather',
        stored: packed + scales * scaleBytes,
        resident: packed + scales * wideBytes,
        transient: 0,
      };
    }
    case 'DequantizeLinear-blocks': {
      const depth = tensor.dims[summedAxis(use, tensor.dims.length)]!;
      const scales = Math.ceil(depth / axisBlock(depth, blockSize)) * (elements / depth);
      const packed = Math.ceil(elements / 2);
      return {
        shares: 'blocks',
        stored: packed + scales * scaleBytes,
        resident: packed + scales * wideBytes,
        transient: elements * 4,
      };
    }
    case 'DequantizeLinear': {
      const stored = elements + tensor.dims[channelAxis(use, tensor.dims.length)]! * 5;
      return { shares: 'channels', stored, resident: stored, transient: elements * 4 };
    }
    case 'DynamicQuantizeLSTM': {
      const columns = tensor.dims[0]! * tensor.dims[1]!;
      const stored = elements + columns * 5;
      return { shares: 'lstm', stored, resident: stored + columns * 4, transient: 0 };
    }
    case 'MatMulInteger':
    case 'ConvInteger':
    case 'QDQ': {
      const channels = tensor.dims[channelAxis(use, tensor.dims.length)]!;
      const stored = elements + channels * 5;
      return { shares: `integer ${use.transpose !== null}`, stored, resident: stored + channels * 4, transient: 0 };
    }
    case 'float16':
      return { shares: 'half', stored: elements * 2, resident: elements * 2, transient: 0 };
    case 'none':
      return { shares: 'none', stored: tensor.data.byteLength, resident: tensor.data.byteLength, transient: 0 };
  }
}

/** Bits of a code in blocks. */
export function blockBits(dtype: Dtype): CodeBits {
  if (dtype === 'int2') return 2;
  return dtype === 'int4' ? 4 : 8;
}

/** The number format with such codes. */
export function blockDtype(bits: CodeBits): Dtype {
  return ({ 2: 'int2', 4: 'int4', 8: 'int8' } as const)[bits];
}

/** The weight of a MatMul or Gemm (or the table of a Gather) as rows of summed (or looked-up) columns. */
export function matrixOf(site: WeightSite, use: WeightUse): WeightMatrix {
  const [first, second] = [site.tensor.dims[0]!, site.tensor.dims[1]!];
  const rowMajor = use.role === 'gather' || channelAxis(use) === 0;
  return rowMajor
    ? { tensor: site.tensor, rows: first, columns: second, order: 'row-major' }
    : { tensor: site.tensor, rows: second, columns: first, order: 'column-major' };
}

/** Blocks of a row as the CPU packs them: 2-bit codes in groups of four. */
function packedBlocks(columns: number, bits: CodeBits, blockSize: number): number {
  const blocks = blocksPerRow(columns, blockSize);
  return bits === 2 ? Math.ceil(blocks / 4) * 4 : blocks;
}

/**
 * Block format of a matrix without zero points. 4-bit: blocks of 32 unless asked otherwise. 8-bit and 2-bit: the block
 * of up to 128 that takes the fewest bytes, scales held three times (packed twice, MatMulNBits level 4) and padding
 * included. The CPU has kernels for 2-bit blocks of 32, 64 and 128 only; others it would unpack on every run.
 */
export function matrixFormat(matrix: WeightMatrix, bits: CodeBits, blockSize: number | undefined): BlockFormat {
  const { columns } = matrix;
  if (bits === 2 && blockSize !== undefined) {
    return { bits, blockSize: Math.min(128, Math.max(32, blockSize)), zeroPoints: false };
  }
  if (bits === 4 || blockSize !== undefined) {
    return { bits, blockSize: columns < 32 ? 16 : (blockSize ?? 32), zeroPoints: false };
  }
  let best = 16;
  let least = Infinity;
  for (const candidate of bits === 2 ? [128, 64, 32] : [128, 64, 32, 16]) {
    const bytes = packedBlocks(columns, bits, candidate) * ((candidate * bits) / 8 + 3 * 4);
    if (bytes < least) [best, least] = [candidate, bytes];
  }
  return { bits, blockSize: best, zeroPoints: false };
}

/** The block format a matrix gets: what was asked for, zero points only where the provider takes them and they pay. */
export function blockFormatOf(matrix: WeightMatrix, asked: WeightFormat, provider: Provider): BlockFormat {
  const bits = blockBits(asked.dtype);
  const plain = matrixFormat(matrix, bits, asked.blockSize);
  const zeroPoints = takesZeroPoints(provider, bits) && (asked.zeroPoints ?? zeroPointsPay(matrix, plain));
  return { ...plain, zeroPoints, halfScales: storedScaleType(matrix.tensor, accuracyLevel(provider, bits) !== 0).half };
}

/**
 * The CPU needs level 4 (int8 activations) for 8-bit and 2-bit codes: any other level unpacks the whole matrix on every
 * run. For 4-bit codes level 0 computes in float32 and holds no second copy of the scales, about a quarter less
 * memory at half the speed of level 4 for single rows, and still faster than float32. Level 4 packs scales while
 * loading and takes only initializers for them: where the Cast of float16 scales is not done by then (optimizations
 * off) it computes nonsense, so that they stay float32.
 */
export function accuracyLevel(provider: Provider, bits: CodeBits): number {
  if (provider === 'cpu') return bits === 4 ? 0 : 4;
  return provider === 'webgpu' ? 4 : 0;
}

/** WebGPU fuses gate/up and q/k/v only without zero points, so they are kept for the CPU and CUDA. */
export function takesZeroPoints(provider: Provider, bits: CodeBits): boolean {
  return bits === 4 && (provider === 'cpu' || provider === 'cuda');
}

/** Block of a table's rows where none is asked for: scales of 8-bit and 2-bit codes weigh more. */
const usualTableBlock: Readonly<Record<CodeBits, number>> = { 2: 64, 4: 32, 8: 128 };

/** Block of a table's rows: the largest power of two up to the usual or asked one that a row fills; the last is partial. */
export function gatherBlock(columns: number, bits: CodeBits, asked: number | undefined): number {
  const most = bits === 8 ? usualTableBlock[8] : (asked ?? usualTableBlock[bits]);
  let block = 16;
  while (block * 2 <= Math.min(most, columns)) block *= 2;
  return block;
}

/** Block along the input channels of a Conv weight. */
export function axisBlock(depth: number, blockSize: number | undefined): number {
  return Math.min(blockSize ?? 32, Math.max(16, 2 ** Math.floor(Math.log2(depth))));
}
