import { getFloat, getInt, intAttribute } from '../../onnx/attribute.js';
import { DataType } from '../../onnx/model.js';
import type { Decomposition } from '../decompose.js';
import { noRule } from '../differentiate.js';
import type { GraphBuilder } from '../graph-builder.js';

const halves = (builder: GraphBuilder, x: string, sizes: readonly number[]): [string, string] =>
  builder.emitMany('Split', [x, builder.ints(sizes)], 2, { axis: intAttribute(-1) }) as [string, string];

const join = (builder: GraphBuilder, parts: readonly string[]): string =>
  builder.emit('Concat', parts, { axis: intAttribute(-1) });

/** Rotations by position (Su et al. 2021, RoFormer, section 3.2.2). */
export interface Rotation {
  /** Cosines and sines of the angles, shaped to broadcast over `[batch, heads, positions, pairs]`. */
  cos: string;
  sin: string;
  pairs: number;
  /** Whether neighbours make a pair, instead of one value of each half. */
  interleaved: boolean;
}

/** Turns the pairs of `x`, `[batch, heads, positions, head]`; what is beyond the last pair stays. */
export function rotate(builder: GraphBuilder, x: string, head: number, rotation: Rotation): string {
  const { cos, sin, pairs, interleaved } = rotation;
  const isWhole = 2 * pairs === head;
  const [turning, rest] = isWhole ? [x, ''] : halves(builder, x, [2 * pairs, head - 2 * pairs]);
  const separate = (part: string): string => builder.emit('Squeeze', [part, builder.ints([4])]);
  const [a, b] = interleaved
    ? (halves(builder, builder.reshape(turning, [0, 0, 0, pairs, 2]), [1, 1]).map(separate) as [string, string])
    : halves(builder, turning, [pairs, pairs]);
  const left = builder.sub(builder.mul(a, cos), builder.mul(b, sin));
  const right = builder.add(builder.mul(a, sin), builder.mul(b, cos));
  const turned = interleaved
    ? builder.reshape(join(builder, [builder.unsqueeze(left, [4]), builder.unsqueeze(right, [4])]), [
        0,
        0,
        0,
        2 * pairs,
      ])
    : join(builder, [left, right]);
  return isWhole ? turned : join(builder, [turned, rest]);
}

/** `[batch, positions, heads · head]` as `[batch, heads, positions, head]`. */
export const splitHeads = (builder: GraphBuilder, x: string, heads: number): string =>
  builder.transpose(builder.reshape(x, [0, 0, heads, -1]), [0, 2, 1, 3]);

/** The way back of {@link splitHeads}. */
export const joinHeads = (builder: GraphBuilder, x: string): string =>
  builder.reshape(builder.transpose(x, [0, 2, 1, 3]), [0, 0, -1]);

/** Rows of the tables of cosines and sines, `[pairs]` each, for positions `[batch or 1, positions]`. */
export function lookUp(
  builder: GraphBuilder,
  tables: readonly [cos: string, sin: string],
  positions: string,
): { cos: string; sin: string } {
  const [cos, sin] = tables.map((table) => builder.unsqueeze(builder.emit('Gather', [table, positions]), [1])) as [
    string,
    string,
  ];
  return { cos, sin };
}

/** RotaryEmbedding of com.microsoft (positions second) and of ONNX 23 (positions last, tables may be per position). */
export const rotaryEmbedding =
  (isStandard: boolean): Decomposition =>
  ({ builder, node, input }) => {
    if (getFloat(node, 'scale', 1) !== 1 || getInt(node, 'is_packed_batching', 0) !== 0) {
      throw noRule(node, 'it scales its positions or packs its batch');
    }
    const [positions, cosTable, sinTable] = isStandard
      ? [input(3), input(1), input(2)]
      : [input(1), input(2), input(3)];
    const x = input(0);
    const isFlat = builder.rank(x) === 3;
    const pairs = builder.fixedSize(cosTable, -1);
    const given = getInt(node, 'num_heads', 0);
    const head = isFlat ? (given > 0 ? builder.fixedSize(x, 2) / given : 2 * pairs) : builder.fixedSize(x, 3);
    const split = isFlat ? splitHeads(builder, x, builder.fixedSize(x, 2) / head) : x;
    const length = builder.fixedSize(x, isFlat ? 1 : 2);
    const places = (): string => {
      if (builder.rank(positions) === 2) return positions;
      const range = builder.ints(
        Array.from({ length }, (_, i) => i),
        [1, length],
      );
      return builder.add(builder.cast(positions, DataType.INT64), range);
    };
    const angles =
      positions === ''
        ? { cos: builder.unsqueeze(cosTable, [1]), sin: builder.unsqueeze(sinTable, [1]) }
        : lookUp(builder, [cosTable, sinTable], places());
    const turned = rotate(builder, split, head, {
      ...angles,
      pairs,
      interleaved: getInt(node, 'interleaved', 0) !== 0,
    });
    return [isFlat ? joinHeads(builder, turned) : turned];
  };
