import type { TensorData } from '../onnx/model.js';
import { assertRange } from '../onnx/tensor.js';

/** Bytes of a source read at once where a cut leaves out some of them. */
const spanBytes = 2 ** 24;

/** Most bytes read for each one that a cut keeps, before it is read row by row. */
const worthSpanning = 4;

/** Where bytes made of others live: as much at hand as those, unless some of them have to be computed. */
const originOf = (parts: readonly TensorData[]): TensorData['origin'] =>
  parts.find(({ origin }) => origin === 'computed')?.origin ?? parts[0]!.origin;

/**
 * Bytes `[first, first + length)` of each of the rows of `row` bytes that data consist of, read range by range.
 */
export function cutData(whole: TensorData, row: number, first: number, length: number): TensorData {
  const byteLength = (whole.byteLength / row) * length;
  const together = row <= worthSpanning * length ? Math.max(1, Math.floor(spanBytes / row)) : 1;
  const readRange = (offset: number, count: number): Uint8Array => {
    assertRange(byteLength, offset, count);
    const result = new Uint8Array(count);
    const end = offset + count;
    for (let start = offset; start < end;) {
      const firstRow = Math.floor(start / length);
      const stop = Math.min(end, (firstRow + together) * length);
      const place = (at: number, inRow: number): number => inRow * row + first + at - inRow * length;
      const from = place(start, firstRow);
      const bytes = whole.readRange(from, place(stop, Math.ceil(stop / length) - 1) - from);
      for (let at = start, inRow = firstRow; at < stop; inRow++) {
        const next = Math.min(stop, (inRow + 1) * length);
        const source = place(at, inRow) - from;
        result.set(bytes.subarray(source, source + next - at), at - offset);
        at = next;
      }
      start = stop;
    }
    return result;
  };
  return {
    ...{ byteLength, origin: originOf([whole]), partOf: whole },
    ...{ read: () => readRange(0, byteLength), readRange },
  };
}

/** Rows that begin with `lengths[0]` bytes of the first data, go on with `lengths[1]` bytes of the second, and so on; read range by range. */
export function joinedData(parts: readonly TensorData[], lengths: readonly number[]): TensorData {
  const byteLength = parts.reduce((sum, part) => sum + part.byteLength, 0);
  const row = lengths.reduce((sum, length) => sum + length, 0);
  const readRange = (offset: number, count: number): Uint8Array => {
    assertRange(byteLength, offset, count);
    const result = new Uint8Array(count);
    let begin = 0;
    parts.forEach((part, index) => {
      const length = lengths[index]!;
      // How much of the part lies before a place in the whole.
      const before = (at: number): number => {
        const rows = Math.floor(at / row);
        return rows * length + Math.min(length, Math.max(0, at - rows * row - begin));
      };
      const [from, to] = [before(offset), before(offset + count)];
      const bytes = to > from ? part.readRange(from, to - from) : new Uint8Array(0);
      for (let at = from; at < to;) {
        const rows = Math.floor(at / length);
        const next = Math.min(to, (rows + 1) * length);
        result.set(bytes.subarray(at - from, next - from), rows * (row - length) + begin + at - offset);
        at = next;
      }
      begin += length;
    });
    return result;
  };
  return { byteLength, origin: originOf(parts), read: () => readRange(0, byteLength), readRange };
}

/** The bytes computed last, for ranges that are asked for one after the other. */
let kept: { data: TensorData; bytes: Uint8Array } | null = null;

/**
 * Bytes that can only be computed together. Those of the tensor that a range was last asked of stay until a range of
 * another one or all of its bytes are asked for: one tensor, whatever their number.
 * @param parts what they are computed of
 */
export function keptData(byteLength: number, parts: readonly TensorData[], compute: () => Uint8Array): TensorData {
  const read = (): Uint8Array => {
    const known = kept?.data === data ? kept.bytes : null;
    if (known !== null) kept = null;
    return known ?? compute();
  };
  const readRange = (offset: number, length: number): Uint8Array => {
    assertRange(byteLength, offset, length);
    if (length === byteLength) return read();
    if (kept?.data !== data) {
      // Let go of the previous tensor before the next one is computed.
      kept = null;
      kept = { data, bytes: compute() };
    }
    return kept.bytes.slice(offset, offset + length);
  };
  const data: TensorData = { byteLength, origin: originOf(parts), read, readRange };
  return data;
}
