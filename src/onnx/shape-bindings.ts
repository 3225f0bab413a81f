import type { Model, ValueInfo } from './model.js';

/** Tokens per sample assumed when nobody says. */
const assumedSequence = 128;

/** The key under which a dimension of a graph input is bound: its name, or `<input>.<axis>` when it has none. */
export function bindingName(input: ValueInfo, axis: number): string | null {
  const dim = input.dims?.[axis];
  if (typeof dim === 'number') return null;
  return dim ?? `${input.name}.${axis}`;
}

/** Graph inputs that are fed at run time (older files list initializers as inputs too). */
export function fedInputs(model: Pick<Model, 'graph'>): ValueInfo[] {
  return model.graph.inputs.filter((input) => !model.graph.initializers.has(input.name));
}

/** The dimension that counts samples: one called like a batch, else an open first axis shared by the first input. */
export function batchDimension(model: Pick<Model, 'graph'>): string | null {
  const names = fedInputs(model).flatMap((input) => (input.dims ?? []).map((_, axis) => bindingName(input, axis)));
  const called = names.find((name) => name !== null && /batch|^(n|b|bs)$/i.test(name) && !name.includes('+'));
  if (called !== undefined) return called;
  const first = fedInputs(model)[0];
  const leading = first === undefined || first.dims === null ? null : bindingName(first, 0);
  return leading !== null && /seq|past|total|len|time|height|width/i.test(leading) ? null : leading;
}

/** Sum of names and numbers such as `past_sequence_length + 1`; null when it is none or a part is open. */
function sumOf(name: string, dims: Readonly<Record<string, number>>): number | null {
  if (!name.includes('+')) return null;
  let total = 0;
  for (const part of name.split('+').map((text) => text.trim())) {
    const value = /^\d+$/.test(part) ? Number(part) : dims[part];
    if (value === undefined) return null;
    total += value;
  }
  return total;
}

/**
 * A value for every open dimension of the inputs: `given` first, the batch dimension gets `batch`, a past
 * (KV cache) length 0, a sequence length 128, a total or summed length the sum of its parts, anything else 1.
 * `assumed` names every dimension that was neither given nor the batch.
 */
export function defaultBindings(
  model: Pick<Model, 'graph'>,
  batch: number,
  given: Readonly<Record<string, number>> = {},
): { dims: Record<string, number>; assumed: string[] } {
  const batchName = batchDimension(model);
  const inputs = fedInputs(model);
  const names = new Set(inputs.flatMap((input) => (input.dims ?? []).map((_, axis) => bindingName(input, axis))));
  const unnamedBatch = new Set(
    inputs
      .filter((input) => input.dims?.[0] === null && batchName === `${inputs[0]?.name}.0`)
      .map((i) => `${i.name}.0`),
  );
  const open = [...names].filter((name) => name !== null);
  const dims: Record<string, number> = {};
  const assumed: string[] = [];
  const late: string[] = [];
  for (const name of open) {
    const value = given[name];
    if (value !== undefined) dims[name] = value;
    else if (name === batchName || unnamedBatch.has(name)) dims[name] = batch;
    else if (name.includes('+') || /total|^kv_?(seq|len)/i.test(name)) late.push(name);
    else {
      assumed.push(name);
      if (/past|cache|history/i.test(name)) dims[name] = 0;
      else dims[name] = /seq|length|len$|time|token|context/i.test(name) ? assumedSequence : 1;
    }
  }
  const named = new Set(inputs.flatMap((input) => input.dims ?? []));
  const pick = (pattern: RegExp) => open.find((name) => named.has(name) && pattern.test(name) && !late.includes(name));
  for (const name of late) {
    const sequence = pick(/^(?!.*(past|cache|history)).*(seq|length|len$|token)/i);
    const past = pick(/past|cache|history/i);
    assumed.push(name);
    dims[name] =
      sumOf(name, dims) ??
      (sequence === undefined ? assumedSequence : (dims[sequence] ?? 0)) + (past === undefined ? 0 : (dims[past] ?? 0));
  }
  return { dims, assumed };
}
