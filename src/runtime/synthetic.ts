import { SnugError } from '../contract/errors.js';
import { castArray, isFloatType, newArray, runtimeDtype } from './arrays.js';
import type { Feeds, RuntimeDtype, RuntimeTensor, RuntimeValue } from './types.js';

/** Tokens in one window when nobody says otherwise. */
export const defaultSequence = 128;

/** Random token ids stay below this: every vocabulary has that many entries. */
const idRange = 10;

/**
 * What an input means, by the names that exporters of transformers agree on. All but `data` can be filled
 * in without any data set.
 */
export type InputRole = 'mask' | 'positions' | 'token-types' | 'past' | 'data';

export function roleOf(input: RuntimeValue): InputRole {
  const name = input.name.toLowerCase();
  if (name.endsWith('attention_mask')) return 'mask';
  if (name.endsWith('position_ids')) return 'positions';
  if (name.endsWith('token_type_ids')) return 'token-types';
  if (/^past|past_key|(?:^|[._])past[._]/.test(name)) return 'past';
  return 'data';
}

/** Sizes of symbolic axes; what is missing is derived from the names that exporters use. */
export type Dims = Readonly<Record<string, number>>;

/** The size a symbol has when nobody gave one; null when nothing is known about it. */
function usualSize(symbol: string, dims: Dims): number | null {
  const name = symbol.toLowerCase();
  const sequence = dims.sequence ?? dims.sequence_length ?? dims.seq_len ?? defaultSequence;
  if (/past.*\+.*seq|seq.*\+.*past|total/.test(name)) return sequence + (pastOf(dims) ?? 0);
  if (name.includes('past')) return pastOf(dims) ?? 0;
  if (/^n$|batch|sample/.test(name)) return dims.batch ?? 1;
  if (/seq|length|tokens/.test(name)) return sequence;
  return null;
}

function pastOf(dims: Dims): number | undefined {
  const entry = Object.entries(dims).find(([name]) => name.toLowerCase().includes('past') && !name.includes('+'));
  return entry?.[1];
}

/**
 * The concrete shape of an input. Symbols take their size from `dims`, else from their usual meaning (batch
 * 1, sequence 128, past 0, total = past + sequence); an unnamed first axis is the batch.
 *
 * @throws SnugError E_DIMENSION when an axis has no value, or the model does not say how many axes there are
 */
export function concreteDims(input: RuntimeValue, dims: Dims): number[] {
  if (input.anyShape) {
    throw new SnugError('E_DIMENSION', `The model does not say what shape the input "${input.name}" has.`, {
      action: 'Give inputs of your own, whose shape then counts (--data, or --calibrate for a fit).',
      params: { input: input.name },
    });
  }
  return input.dims.map((dim, axis) => {
    if (typeof dim === 'number') return dim;
    const size = dims[dim] ?? usualSize(dim, dims) ?? (axis === 0 ? (dims.batch ?? 1) : null);
    if (size === null || !Number.isSafeInteger(size) || size < 0) {
      const shown = dim === '' ? `axis ${axis}` : `"${dim}"`;
      throw new SnugError('E_DIMENSION', `The size of ${shown} of the input "${input.name}" is not known.`, {
        action: `Give it, for example --dim ${dim === '' ? 'NAME' : dim}=64.`,
        params: { input: input.name, dimension: dim, axis },
      });
    }
    return size;
  });
}

/** The number type of an input as tensors carry it. @throws SnugError E_NOT_SUPPORTED */
export function inputDtype(input: RuntimeValue): RuntimeDtype {
  const dtype = runtimeDtype(input.dtype);
  if (dtype) return dtype;
  throw new SnugError('E_NOT_SUPPORTED', `The input "${input.name}" has the type ${input.dtype}.`, {
    action: 'Snug can feed dense tensors of numbers only.',
    params: { input: input.name, dtype: input.dtype },
  });
}

/** Room for the numbers of an input. @throws SnugError E_OUT_OF_MEMORY */
function zeros(input: RuntimeValue, shape: readonly number[]): Float64Array {
  const length = shape.reduce((product, dim) => product * dim, 1);
  try {
    return new Float64Array(length);
  } catch (error) {
    throw new SnugError('E_OUT_OF_MEMORY', `There is no room for the ${length} numbers of the input "${input.name}".`, {
      action: 'Choose a smaller batch or smaller dimensions.',
      params: { input: input.name, dims: shape.join(' × ') },
      cause: error,
    });
  }
}

/**
 * A tensor for an input that needs no data: masks are ones, token types zeros, positions count from the
 * length of the past, and the past itself is zeros (usually of length zero).
 */
export function filledTensor(input: RuntimeValue, role: Exclude<InputRole, 'data'>, dims: Dims): RuntimeTensor {
  const dtype = inputDtype(input);
  const shape = concreteDims(input, dims);
  const values = zeros(input, shape);
  if (role === 'mask') values.fill(1);
  if (role === 'positions') {
    const columns = shape.at(-1) ?? 1;
    const past = pastOf(dims) ?? 0;
    for (let i = 0; i < values.length; i += 1) values[i] = past + (i % columns);
  }
  return { dtype, dims: shape, data: castArray(values, 'float64', dtype) };
}

/** Mulberry32 by Tommy Ettinger: 32 bits of state, uniform in [0, 1). */
function randomSource(seed: number): () => number {
  let state = seed | 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/**
 * Deterministic inputs for a model without data: floats from a normal distribution (mean 0.5, deviation
 * 0.5), token ids from a range every vocabulary has, the rest as {@link filledTensor} says.
 *
 * @param dims sizes of symbolic axes; see {@link concreteDims} for those left out
 * @throws SnugError E_DIMENSION, E_NOT_SUPPORTED
 */
export function syntheticFeeds(inputs: readonly RuntimeValue[], dims: Dims, seed: number): Feeds {
  const feeds: Feeds = {};
  inputs.forEach((input, index) => {
    const role = roleOf(input);
    feeds[input.name] =
      role === 'data' ? randomTensor(input, dims, randomSource(seed * 1009 + index)) : filledTensor(input, role, dims);
  });
  return feeds;
}

function randomTensor(input: RuntimeValue, dims: Dims, random: () => number): RuntimeTensor {
  const dtype = inputDtype(input);
  const shape = concreteDims(input, dims);
  const values = zeros(input, shape);
  if (dtype === 'bool') return { dtype, dims: shape, data: newArray(dtype, values.length).fill(1 as never) };
  for (let i = 0; i < values.length; i += 1) {
    values[i] = isFloatType(dtype)
      ? 0.5 + 0.5 * Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random())
      : Math.floor(random() * idRange);
  }
  return { dtype, dims: shape, data: castArray(values, 'float64', dtype) };
}
