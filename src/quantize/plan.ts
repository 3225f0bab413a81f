import type { Dtype, Provider, WeightFormat } from '../contract/types.js';
import { getFloat, getInt } from '../onnx/graph.js';
import { DataType, type Model } from '../onnx/model.js';
import { opsetObstacle } from '../onnx/opset.js';
import { elementCount } from '../onnx/tensor.js';
import { blockMatrixSize, blocksPerRow, type BlockFormat } from './block-matrix.js';
import type { CodeBits } from './block-search.js';
import { staysFloat32 } from './float16.js';
import { floatBytes } from './floats.js';
import { otherWeight } from './lstm.js';
import type { WeightMatrix } from './matrix.js';
import { normalFloatSize } from './normal-float.js';
import { rankOf } from './ranks.js';
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

/** A property of this very weight or model that rules the encoding out. */
function obstacleOf(model: Model, site: WeightSite, use: WeightUse, encoding: Encoding, dtype: Dtype): string | null {
  const { tensor } = site;
  const opset = model.opsets.get('') ?? 0;
  if (encoding === 'float16') {
    if (tensor.dataType !== DataType.FLOAT) return 'it is not float32';
    if (use.graph !== model.graph) return 'bodies of If and Loop stay float32';
    return staysFloat32(use.node.opType) ? 'it needs the range of float32' : null;
  }
  const wide = encoding === 'MatMulNBits' || encoding === 'GatherBlockQuantized';
  if (tensor.dataType !== DataType.FLOAT && !(wide && tensor.dataType === DataType.FLOAT16)) {
    return 'weights of this number format are not quantized further';
  }
  switch (use.role) {
    case 'matmul-left':
      return leftObstacle(model, use);
    case 'matmul-stack':
      if (encoding === 'DequantizeLinear-blocks') return axisBlocksObstacle(model, site, use);
      return opset < 13 ? 'needs opset 13 or newer' : null;
    case 'matmul':
    case 'gemm':
      if (tensor.dims.length !== 2) return 'the weight is no matrix';
      if (encoding === 'MatMulInteger' && opset < 11) return 'needs opset 11 or newer';
      return encoding === 'QDQ' ? staticObstacle(model, site, use, opset) : null;
    case 'gather': {
      if (use.transpose !== null || tensor.dims.length !== 2) return 'only tables of rows have a quantized form';
      const axis = getInt(use.node, 'axis', 0);
      if (axis !== 0 && axis !== -2) return 'only tables of rows have a quantized form';
      return dtype === 'int2' && tensor.dims[1]! % 4 !== 0 ? 'its rows do not divide into bytes of four codes' : null;
    }
    case 'conv':
    case 'conv-transpose':
      if (tensor.dims.length < 3) return 'its weight has no kernel dimensions';
      if (encoding === 'ConvInteger') return opset < 11 ? 'needs opset 11 or newer' : null;
      if (encoding === 'QDQ') return staticObstacle(model, site, use, opset);
      if (encoding === 'DequantizeLinear-blocks') return axisBlocksObstacle(model, site, use);
      return opset < 13 ? 'needs opset 13 or newer' : null;
    case 'lstm':
      if (tensor.dims.length !== 3) return 'its weight has not the expected three dimensions';
      if (encoding === 'DynamicQuantizeLSTM') return lstmObstacle(use);
      return opset < 13 ? 'needs opset 13 or newer' : null;
    case 'other':
      return null;
  }
}

function lstmObstacle(use: WeightUse): string | null {
  if (use.node.opType !== 'LSTM') return 'recurrent layers of this kind have no integer form';
  if (getInt(use.node, 'layout', 0) !== 0) return 'its batch comes first';
  return use.graph.initializers.has(otherWeight(use)) ? null : 'its other weight is not a constant beside it';
}

/** Why the other matrix of a product cannot be transposed, as a weight on the left asks for. */
function leftObstacle(model: Model, { graph, node }: WeightUse): string | null {
  const rank = node.opType === 'Gemm' ? 2 : rankOf(model, graph, node.inputs[1]!);
  if (rank === null) return 'the dimensions of what it multiplies are not known';
  return rank < 2 ? 'it multiplies a vector' : null;
}

function axisBlocksObstacle(model: Model, { tensor }: WeightSite, use: WeightUse): string | null {
  const obstacle = blocksObstacle(model);
  if (obstacle !== null) return obstacle;
  return tensor.dims[summedAxis(use, tensor.dims.length)]! < 16 ? 'too few input channels for blocks of 16' : null;
}

const blockObstacles = new WeakMap<Model, string | null>();

/** Why a model cannot be said in the first opset that knows int4 in blocks; asked for once for each model. */
function blocksObstacle(model: Model): string | null {
  let known = blockObstacles.get(model);
  if (known === undefined) blockObstacles.set(model, (known = opsetObstacle(model, 21)));
  return known;
}

function staticObstacle(model: Model, { tensor }: WeightSite, use: WeightUse, opset: number): string | null {
  const { graph, node } = use;
  if (opset < 13) return 'needs opset 13 or newer';
  if (graph !== model.graph) return 'calibration does not see inside bodies of If and Loop';
  if (use.transpose !== null) return 'its weight is stored transposed';
  if (graph.initializers.has(node.inputs[0]!)) return 'its input is a constant';
  const bias = node.inputs[2] ?? '';
  const channels = tensor.dims[channelAxis(use, tensor.dims.length)];
  const biasDims = bias === '' ? [channels] : (graph.initializers.get(bias)?.dims ?? []);
  if (biasDims.length !== 1) return 'its bias is not a constant vector';
  if (biasDims[0] !== channels) return 'its bias has not one value for each output';
  if (use.role !== 'gemm') return null;
  const plain = getInt(node, 'transA', 0) === 0 && getFloat(node, 'alpha', 1) === 1 && getFloat(node, 'beta', 1) === 1;
  return plain ? null : 'integer kernels need transA = 0 and alpha = beta = 1';
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

/** Axis of a weight of `rank` dimensions that carries the output channels, where int8 has its own scale. */
export function channelAxis(use: WeightUse, rank = 2): number {
  switch (use.role) {
    case 'matmul-left': {
      const stored = use.node.opType === 'Gemm' ? getInt(use.node, 'transA', 0) : 0;
      return use.transpose === null ? stored : 1 - stored;
    }
    case 'matmul-stack':
      return use.input === 1 ? rank - 1 : rank - 2;
    case 'matmul':
      return use.transpose === null ? 1 : 0;
    case 'gemm': {
      const stored = getInt(use.node, 'transB', 0) === 1 ? 0 : 1;
      return use.transpose === null ? stored : 1 - stored;
    }
    case 'conv-transpose':
    case 'lstm':
      return 1;
    case 'conv':
    case 'gather':
    case 'other':
      return 0;
  }
}

/** Axis of a Conv weight or of stacked matrices that is summed over: blocks lie along it. */
export function summedAxis(use: WeightUse, rank: number): number {
  return use.role === 'matmul-stack' ? rank - 1 - use.input : 1;
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
