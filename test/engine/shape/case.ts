import fc from 'fast-check';
import * as ort from 'onnxruntime-node';
import { expect } from 'vitest';
import { makeNode } from '../../../src/onnx/graph.js';
import { DataType, type Attribute, type Model, type Node, type Tensor } from '../../../src/onnx/model.js';
import { inferShapes, type ShapeResult } from '../../../src/onnx/shape.js';
import { rawTensor } from '../../../src/onnx/tensor.js';
import { serializeModel } from '../../../src/onnx/write.js';
import { graphOf, modelOf } from '../../unit/onnx/build.js';

/** One input of an operator: fed at run time, or a constant of the graph. */
export interface Operand {
  dims: readonly number[];
  dataType: number;
  values: readonly number[];
  fed: boolean;
}

export interface OperatorCase {
  nodes: Node[];
  operands: Record<string, Operand>;
  outputs: string[];
  opset: number;
}

const kinds: Record<number, { type: ort.Tensor.Type; make: (values: readonly number[]) => ort.Tensor.DataType }> = {
  [DataType.FLOAT]: { type: 'float32', make: (v) => Float32Array.from(v) },
  [DataType.DOUBLE]: { type: 'float64', make: (v) => Float64Array.from(v) },
  [DataType.INT64]: { type: 'int64', make: (v) => BigInt64Array.from(v, (x) => BigInt(Math.trunc(x))) },
  [DataType.INT32]: { type: 'int32', make: (v) => Int32Array.from(v) },
  [DataType.UINT8]: { type: 'uint8', make: (v) => Uint8Array.from(v) },
  [DataType.INT8]: { type: 'int8', make: (v) => Int8Array.from(v) },
  [DataType.UINT32]: { type: 'uint32', make: (v) => Uint32Array.from(v) },
  [DataType.BOOL]: { type: 'bool', make: (v) => Uint8Array.from(v) },
};

const count = (dims: readonly number[]) => dims.reduce((product, size) => product * size, 1);

function filled(dims: readonly number[], given: readonly number[] | number | undefined): number[] {
  if (typeof given === 'object') return [...given];
  return Array.from({ length: count(dims) }, (_, index) => given ?? Math.cos(index));
}

/** A tensor fed at run time; elements: a list, one number for all, or made up. */
export function fed(
  dims: readonly number[],
  dataType: number = DataType.FLOAT,
  given?: readonly number[] | number,
): Operand {
  return { dims, dataType, values: filled(dims, given ?? (dataType === DataType.FLOAT ? undefined : 1)), fed: true };
}

/** A constant of the graph. */
export function constant(
  dims: readonly number[],
  dataType: number = DataType.FLOAT,
  given?: readonly number[] | number,
): Operand {
  return { ...fed(dims, dataType, given), fed: false };
}

export const ints = (...values: number[]): Operand => constant([values.length], DataType.INT64, values);
export const scalar = (value: number, dataType: number = DataType.INT64): Operand => constant([], dataType, [value]);

type AttributeValue = number | string | readonly number[] | Attribute;

export function attributes(values: Record<string, AttributeValue | undefined>): Record<string, Attribute> {
  const entries = Object.entries(values).flatMap(([name, value]): [string, Attribute][] => {
    if (value === undefined) return [];
    if (typeof value === 'number') return [[name, { type: 'int', value }]];
    if (typeof value === 'string') return [[name, { type: 'string', value: Buffer.from(value) }]];
    return [[name, Array.isArray(value) ? { type: 'ints', value: value as number[] } : (value as Attribute)]];
  });
  return Object.fromEntries(entries);
}

/** A graph of one node. `key` is the operator, with its domain in front unless that is ai.onnx. */
export function single(
  key: string,
  inputs: readonly (Operand | null)[],
  values: Record<string, AttributeValue | undefined> = {},
  { opset = 17, outputs = 1 }: { opset?: number; outputs?: number } = {},
): OperatorCase {
  const [domain = '', opType = ''] = key.includes(':') ? key.split(':') : ['', key];
  const names = inputs.map((input, index) => (input ? `i${index}` : ''));
  const out = Array.from({ length: outputs }, (_, index) => `o${index}`);
  return {
    nodes: [makeNode(opType, names, out, attributes(values), { domain, name: 'node' })],
    operands: Object.fromEntries(inputs.flatMap((input, index) => (input ? [[`i${index}`, input]] : []))),
    outputs: out,
    opset,
  };
}

function tensorOf(name: string, { dims, dataType, values }: Operand): Tensor {
  const data = kinds[dataType]?.make(values) as Float32Array;
  return rawTensor(name, dataType, [...dims], new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
}

/** The case as a model in which every size of a fed input has a name; `types` are those of the outputs. */
function modelFor({ nodes, operands, outputs, opset }: OperatorCase, types: Map<string, number>): Model {
  const entries = Object.entries(operands);
  const model = modelOf(
    graphOf({
      nodes,
      inputs: entries
        .filter(([, operand]) => operand.fed)
        .map(([name, { dims, dataType }]) => ({ name, dataType, dims: dims.map((_, axis) => `${name}_${axis}`) })),
      initializers: entries.filter(([, operand]) => !operand.fed).map(([name, operand]) => tensorOf(name, operand)),
      outputs: outputs.map((name) => ({ name, dataType: types.get(name) ?? DataType.FLOAT, dims: null })),
    }),
    opset,
  );
  for (const node of nodes) if (node.domain !== '') model.opsets.set(node.domain, 1);
  model.irVersion = opset > 22 ? 11 : 9;
  return model;
}

function bindingsOf(operands: OperatorCase['operands'], change: (size: number) => number = (size) => size) {
  const bindings: Record<string, number> = {};
  for (const [name, { dims }] of Object.entries(operands)) {
    dims.forEach((size, axis) => (bindings[`${name}_${axis}`] = change(size)));
  }
  return bindings;
}

export function infer(test: OperatorCase): ShapeResult {
  return inferShapes(modelFor(test, new Map()), bindingsOf(test.operands));
}

/** What a formula comes to; NaN when it says nothing. */
export function evaluateFormula(text: string, sizes: Readonly<Record<string, number>>): number {
  if (text.includes('?')) return NaN;
  const names = Object.keys(sizes);
  const body = text.replace(/\b(floor|ceil|min|max)\(/g, 'Math.$1(');
  const evaluate = new Function('mod', ...names, `return ${body};`) as (...values: unknown[]) => number;
  return evaluate((a: number, b: number) => a - Math.floor(a / b) * b, ...names.map((name) => sizes[name]));
}

/** Formulas must hold for other sizes as well: both inferences, where both succeed, have to agree. */
function checkFormulas(test: OperatorCase, result: ShapeResult): void {
  const other = bindingsOf(test.operands, (size) => (size === 1 ? 1 : size * 2));
  const again = inferShapes(modelFor(test, new Map()), other);
  for (const name of test.outputs) {
    const formulas = result.formulas(name);
    const dims = again.shapes.get(name)?.dims;
    if (!formulas || !dims || dims.length !== formulas.length) continue;
    formulas.forEach((formula, axis) => {
      const value = evaluateFormula(formula, other);
      if (!Number.isNaN(value)) expect([formula, value]).toEqual([formula, dims[axis]]);
    });
  }
}

/** Messages of a runtime that has no kernel for the types or refuses the attributes: the case says nothing. */
export type Outcome = 'agrees' | 'refused';

/** Runs a case and compares element types and sizes of all its outputs with what is inferred. */
export async function checkCase(test: OperatorCase): Promise<Outcome> {
  const result = infer(test);
  const types = new Map(test.outputs.map((name) => [name, result.shapes.get(name)?.dataType ?? DataType.FLOAT]));
  let outputs: ort.InferenceSession.OnnxValueMapType;
  let session: ort.InferenceSession | null = null;
  try {
    session = await ort.InferenceSession.create(serializeModel(modelFor(test, types)), {
      graphOptimizationLevel: 'disabled',
      logSeverityLevel: 4,
    });
    const feeds = Object.entries(test.operands)
      .filter(([, operand]) => operand.fed)
      .map(([name, { dims, dataType, values }]) => {
        const kind = kinds[dataType];
        return [name, new ort.Tensor(kind?.type ?? 'float32', kind?.make(values) as Float32Array, dims)] as const;
      });
    outputs = await session.run(Object.fromEntries(feeds));
  } catch (error) {
    // The runtime agrees on every element type it gets as far as to check.
    expect(String(error)).not.toMatch(/does not match expected type/);
    return 'refused';
  } finally {
    await session?.release();
  }
  const summary = Object.entries(test.operands).map(([name, { dims }]) => `${name}[${dims.join()}]`);
  const what = `${test.nodes.map((node) => node.opType).join('+')} ${summary.join(' ')} ${describeAttributes(test.nodes)}`;
  for (const name of test.outputs) {
    expect([what, name, result.shapes.get(name)?.dims, result.unknown]).toEqual([what, name, outputs[name]?.dims, []]);
  }
  checkFormulas(test, result);
  return 'agrees';
}

function describeAttributes(nodes: readonly Node[]): string {
  return nodes
    .flatMap(({ attributes }) =>
      [...attributes].map(
        ([name, { type, value }]) => `${name}=${type === 'string' ? String(value) : JSON.stringify(value)}`,
      ),
    )
    .join(' ');
}

/** Choices of one generated case. */
export interface Choose {
  int(min: number, max: number): number;
  bool(): boolean;
  of<T>(...options: T[]): T;
  /** Sizes of a tensor of `min` to `max` dimensions. */
  dims(min: number, max: number, largest?: number): number[];
  /** Some axes of a rank, each either way round. */
  axes(rank: number): number[];
}

/** Checks `runs` generated cases; at least `needed` of them must be ones the runtime runs. */
export async function checkCases(make: (choose: Choose) => OperatorCase, runs = 25, needed = runs / 3): Promise<void> {
  let agreed = 0;
  await fc.assert(
    fc.asyncProperty(fc.gen(), async (g) => {
      const int = (min: number, max: number) => g(fc.integer, { min, max });
      const choose: Choose = {
        int,
        bool: () => g(fc.boolean),
        of: <T>(...options: T[]) => options[int(0, options.length - 1)] as T,
        dims: (min, max, largest = 5) => Array.from({ length: int(min, max) }, () => int(1, largest)),
        axes: (rank) =>
          Array.from({ length: rank }, (_, axis) => axis)
            .filter(() => g(fc.boolean))
            .map((axis) => (g(fc.boolean) ? axis : axis - rank)),
      };
      if ((await checkCase(make(choose))) === 'agrees') agreed += 1;
    }),
    { numRuns: runs },
  );
  expect(agreed).toBeGreaterThanOrEqual(needed);
}
