import { DataType } from './model.js';
import {
  broadcast,
  differ,
  fixed,
  ShapeConflict,
  ShapeGap,
  type RuleContext,
  type ShapeDim,
  type ShapeRule,
  type ShapeRules,
} from './shape-types.js';

/** Result dimensions of a matrix product with numpy's rules for vectors and batches. */
export function matMulDims(left: readonly ShapeDim[], right: readonly ShapeDim[]): ShapeDim[] {
  const a = left.length === 1 ? [fixed(1), ...left] : left;
  const b = right.length === 1 ? [...right, fixed(1)] : right;
  const rows = a.at(-2);
  const inner = a.at(-1);
  const columns = b.at(-1);
  if (!rows || !inner || !columns) throw new ShapeGap('a scalar cannot be multiplied as a matrix');
  if (differ(inner, b.at(-2))) throw new ShapeConflict(`inner sizes ${inner.size} and ${b.at(-2)?.size} differ`);
  const result = broadcast([a.slice(0, -2), b.slice(0, -2)]);
  if (left.length > 1) result.push(rows);
  if (right.length > 1) result.push(columns);
  return result;
}

function swapLast(dims: readonly ShapeDim[], swap: boolean): readonly ShapeDim[] {
  const [rows, columns] = dims.slice(-2);
  return swap && rows && columns ? [...dims.slice(0, -2), columns, rows] : dims;
}

/** The first batch axis put in front of the columns (FusedMatMul's `transBatch`). */
function sinkBatch(dims: readonly ShapeDim[], sink: boolean): readonly ShapeDim[] {
  const [batch] = dims;
  if (!sink || batch === undefined || dims.length < 3) return dims;
  return [...dims.slice(1, -1), batch, ...dims.slice(-1)];
}

/** Product of inputs 0 and `right`, typed by `type`. */
export function matMul(type: (context: RuleContext) => number, right = 1): ShapeRule {
  return (context) => {
    const side = (index: number, letter: string) => {
      const dims = sinkBatch(context.input(index).dims, context.int(`transBatch${letter}`, 0) !== 0);
      return swapLast(dims, context.int(`trans${letter}`, 0) !== 0);
    };
    return [{ dataType: type(context), dims: matMulDims(side(0, 'A'), side(right, 'B')) }];
  };
}

const firstType = (context: RuleContext) => context.input(0).dataType;

function gemm(type: (context: RuleContext) => number, right = 1): ShapeRule {
  return (context) => {
    const a = swapLast(context.input(0).dims, context.int('transA', 0) !== 0);
    const b = swapLast(context.input(right).dims, context.int('transB', 0) !== 0);
    if (differ(a[1], b[0])) throw new ShapeConflict(`inner sizes ${a[1]?.size} and ${b[0]?.size} differ`);
    return [{ dataType: type(context), dims: [a[0] ?? fixed(1), b[1] ?? fixed(1)] }];
  };
}

/** LSTM, GRU, RNN: Y [seq, directions, batch, hidden], Y_h and Y_c [directions, batch, hidden]; layout 1 puts batch first. */
const recurrent: ShapeRule = (context) => {
  const { dataType, dims } = context.input(0);
  const batchFirst = context.int('layout', 0) !== 0;
  const [sequence, batch] = batchFirst ? [dims[1], dims[0]] : [dims[0], dims[1]];
  const directions = context.text('direction', 'forward') === 'bidirectional' ? fixed(2) : fixed(1);
  const given = context.int('hidden_size', 0);
  const hidden = given > 0 ? fixed(given) : context.input(2).dims[2];
  if (!sequence || !batch || !hidden) throw new ShapeGap('needs a rank-3 input');
  const all = batchFirst ? [batch, sequence, directions, hidden] : [sequence, directions, batch, hidden];
  const last = batchFirst ? [batch, directions, hidden] : [directions, batch, hidden];
  return [
    { dataType, dims: all },
    { dataType, dims: last },
    { dataType, dims: last },
  ];
};

/** One operand of an equation with its ellipsis replaced by letters of its own (digits, counted from the right). */
function spell(term: string, rank: number): string {
  const letters = term.replace('...', '').length;
  if (!term.includes('...')) {
    if (letters !== rank) throw new ShapeGap(`"${term}" does not name the ${rank} dimensions`);
    return term;
  }
  const digits = Array.from({ length: rank - letters }, (_, index) =>
    String.fromCharCode(0x100 + rank - letters - index),
  );
  return term.replace('...', digits.join(''));
}

const einsum: ShapeRule = (context) => {
  const [left = '', right] = context.text('equation', '').replaceAll(' ', '').split('->');
  const byLetter = new Map<string, ShapeDim[]>();
  let batch = '';
  left.split(',').forEach((term, index) => {
    const { dims } = context.input(index);
    const spelled = spell(term, dims.length);
    const extra = spelled.replace(/[a-zA-Z]/g, '');
    if (extra.length > batch.length) batch = extra;
    [...spelled].forEach((letter, axis) => {
      byLetter.set(letter, [...(byLetter.get(letter) ?? []), dims[axis] ?? fixed(1)]);
    });
  });
  // Without an output: the ellipsis, then each letter that occurs once, in order.
  const once = [...byLetter].filter(([letter, uses]) => uses.length === 1 && /[a-zA-Z]/.test(letter));
  const output =
    right?.replace('...', batch) ??
    batch +
      once
        .map(([letter]) => letter)
        .sort()
        .join('');
  const dims = [...output].map((letter) => broadcast((byLetter.get(letter) ?? []).map((dim) => [dim]))[0] ?? fixed(1));
  return [{ dataType: context.input(0).dataType, dims }];
};

const determinant: ShapeRule = (context) => {
  const { dataType, dims } = context.input(0);
  return [{ dataType, dims: dims.slice(0, -2) }];
};

/** Products and recurrences with their quantized and fused forms. */
export const contractionRules: ShapeRules = {
  MatMul: matMul(firstType),
  Gemm: gemm(firstType),
  'com.microsoft:FusedMatMul': matMul(firstType),
  'com.microsoft:FusedMatMulActivation': matMul(firstType),
  'com.microsoft:TransposeMatMul': matMul(firstType),
  'com.microsoft:SparseToDenseMatMul': matMul(firstType),
  'com.microsoft:FusedGemm': gemm(firstType),
  'com.microsoft:GemmFastGelu': matMul(firstType),
  'com.microsoft:GemmFloat8': gemm((context) => context.int('dtype', DataType.FLOAT)),
  MatMulInteger: matMul(() => DataType.INT32),
  'com.microsoft:MatMulInteger16': matMul(() => DataType.INT32),
  'com.microsoft:MatMulIntegerToFloat': matMul((context) => context.input(2).dataType),
  'com.microsoft:DynamicQuantizeMatMul': matMul(firstType),
  QLinearMatMul: matMul((context) => context.input(7).dataType, 3),
  'com.microsoft:QGemm': gemm((context) => (context.has(8) ? context.input(8).dataType : DataType.FLOAT), 3),
  LSTM: recurrent,
  'com.microsoft:DynamicQuantizeLSTM': recurrent,
  'com.microsoft:AttnLSTM': recurrent,
  GRU: recurrent,
  RNN: recurrent,
  Einsum: einsum,
  Det: determinant,
};
