import type { Model, ValueInfo } from './model.js';

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
