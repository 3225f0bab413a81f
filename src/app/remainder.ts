import type { Dtype } from '../contract/types.js';
import type { Model } from '../onnx/model.js';
import type { QuantizedWeight } from '../quantize/index.js';

/** Bytes of a result that are in a wider format than asked for, and why. */
export interface Remainder {
  reason: string;
  bytes: number;
  /** How many weights they belong to. */
  weights: number;
}

/** Of one code of each format, scales left out. */
const bits: Readonly<Record<Dtype, number>> = {
  ...{ fp32: 32, fp16: 16, int8: 8, 'int8-static': 8, 'int8-dynamic': 8 },
  ...{ int4: 4, nf4: 4, int2: 2 },
};

/**
 * What keeps a quantized model from being smaller, the most bytes first: weights in a wider format than asked for, by
 * reason, and small vectors, which no format is offered for.
 */
export function remainders(
  original: Model,
  quantized: Model,
  weights: readonly QuantizedWeight[],
  asked: Dtype,
): Remainder[] {
  const found = new Map<string, Remainder>();
  const add = (reason: string, bytes: number): void => {
    const known = found.get(reason) ?? { reason, bytes: 0, weights: 0 };
    found.set(reason, { reason, bytes: known.bytes + bytes, weights: known.weights + 1 });
  };
  for (const { dtype, reason, bytesAfter } of weights) {
    if (bits[dtype] > bits[asked] && reason !== undefined) add(`${dtype}: ${reason}`, bytesAfter);
  }
  const listed = new Set(weights.map(({ name }) => name));
  for (const [name, { data }] of quantized.graph.initializers) {
    if (listed.has(name) || !original.graph.initializers.has(name)) continue;
    add('vectors (biases, normalizations, constants) stay as they are', data.byteLength);
  }
  return [...found.values()].sort((a, b) => b.bytes - a.bytes);
}
