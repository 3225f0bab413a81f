import { SnugError } from '../contract/errors.js';
import type { Graph, Model } from './model.js';
import { batchDimension, bindingName, fedInputs } from './shape-bindings.js';
import { inferShapes } from './shape-infer.js';

/** Tokens per sample assumed when nobody says and the model allows as many. */
const usualSequence = 128;

interface Bindings {
  dims: Record<string, number>;
  assumed: string[];
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

/** Sizes by the names of the dimensions alone. */
function bindingsByName(
  model: Pick<Model, 'graph'>,
  batch: number,
  given: Readonly<Record<string, number>>,
  assumedSequence: number,
): Bindings {
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
    // Names come from the file: `constructor` is one like any other.
    const value = Object.hasOwn(given, name) ? given[name] : undefined;
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

/** Whether nothing in the graph speaks against these sizes (a table of positions that is too short, say). */
function agrees(model: Pick<Model, 'graph' | 'opsets'>, dims: Readonly<Record<string, number>>): boolean {
  try {
    return inferShapes(model, dims).conflicts.length === 0;
  } catch (error) {
    // A file that breaks the format says nothing about sizes here; whoever infers its shapes is told.
    if (error instanceof SnugError) return true;
    throw error;
  }
}

/** Longest sequences found, by graph and by what was given beside. */
const found = new WeakMap<Graph, Map<string, number>>();
/** Sets of given sizes remembered for one graph. */
const mostRemembered = 64;

/** The longest sequence up to the usual one that the graph allows: found by inferring its shapes, once for each graph. */
function longestSequence(model: Pick<Model, 'graph' | 'opsets'>, given: Readonly<Record<string, number>>): number {
  const known = found.get(model.graph) ?? new Map<string, number>();
  found.set(model.graph, known);
  const key = JSON.stringify(Object.entries(given).sort());
  const remembered = known.get(key);
  if (remembered !== undefined) return remembered;
  const fits = (sequence: number) => agrees(model, bindingsByName(model, 1, given, sequence).dims);
  let longest = usualSequence;
  if (!fits(longest) && fits(1)) {
    let [low, high] = [1, usualSequence];
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (fits(middle)) low = middle;
      else high = middle;
    }
    longest = low;
  }
  if (known.size >= mostRemembered) known.clear();
  known.set(key, longest);
  return longest;
}

/**
 * A value for every open dimension of the inputs: `given` first, the batch dimension gets `batch`, a past (KV cache)
 * length 0, a sequence length 128 (or the most the model has positions for), a total or summed length the sum of its
 * parts, anything else 1. `assumed` names every dimension that was neither given nor the batch.
 */
export function defaultBindings(
  model: Pick<Model, 'graph'> & Partial<Pick<Model, 'opsets'>>,
  batch: number,
  given: Readonly<Record<string, number>> = {},
): { dims: Record<string, number>; assumed: string[] } {
  const usual = bindingsByName(model, batch, given, usualSequence);
  const { opsets, graph } = model;
  if (opsets === undefined || !usual.assumed.some((name) => usual.dims[name] === usualSequence)) return usual;
  const batchName = batchDimension(model);
  const others = Object.fromEntries(Object.entries(given).filter(([name]) => name !== batchName));
  const longest = longestSequence({ graph, opsets }, others);
  return longest === usualSequence ? usual : bindingsByName(model, batch, given, longest);
}
