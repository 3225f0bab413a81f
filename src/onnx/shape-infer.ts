import { SnugError } from '../contract/errors.js';
import type { Graph, Model, ValueInfo } from './model.js';
import { bindingName, fedInputs } from './shape-bindings.js';
import { named, textOf, type Expression } from './shape-expression.js';
import {
  inferGraph,
  nothingAround,
  type GraphShapes,
  type InferenceRun,
  type SizeConflict,
  type UnknownValue,
} from './shape-graph.js';
import { fixed, type InferredValue, type KnownData } from './shape-types.js';

/** Element type and sizes of a value for one set of bindings. */
export interface Shape {
  dataType: number;
  dims: number[];
}

/** Shapes of the values of one graph. */
export interface ShapeResult {
  /** Every value whose shape is known: inputs, initializers and node outputs. */
  shapes: Map<string, Shape>;
  /**
   * The same values as a planner without bindings sees them: a number it knows, a dimension's name it can
   * compare, or null. Values of which only the rank is known are here as well.
   */
  symbols: Map<string, (number | string | null)[]>;
  /** Elements of small tensors that follow from shapes and constants alone. */
  constants: Map<string, KnownData>;
  /** Values whose shape could not be worked out, and everything computed from them. */
  unknown: UnknownValue[];
  /** Nodes whose inputs' sizes contradict each other (bodies aside): with these bindings the model cannot run. */
  conflicts: SizeConflict[];
  /** Bodies of If, Loop, Scan at any depth; what they use from outside is in the results around them. */
  bodies: Map<Graph, ShapeResult>;
  /** Sizes as formulas over the open dimensions' names (`batch*12`); `?` where none is known, null = no such value. */
  formulas(value: string): string[] | null;
  /** The same formulas, to be evaluated; null where none is known. */
  expressions(value: string): (Expression | null)[] | null;
}

function boundSize(name: string, bindings: Readonly<Record<string, number>>): number {
  const size = bindings[name];
  if (size === undefined || !Number.isInteger(size) || size < 0) {
    throw new SnugError('E_DIMENSION', `The dimension "${name}" has no usable value.`, {
      action: `Give it a whole number, for example with --dim ${name}=1.`,
      params: { name },
    });
  }
  return size;
}

function inputValue(input: ValueInfo, bindings: Readonly<Record<string, number>>): InferredValue | null {
  if (input.dims === null) return null;
  return {
    dataType: input.dataType,
    dims: input.dims.map((dim, axis) => {
      if (typeof dim === 'number') return fixed(dim);
      const name = bindingName(input, axis) ?? '';
      return { size: boundSize(name, bindings), symbol: dim, expression: named(name) };
    }),
  };
}

function resultOf(
  { values, unknown, conflicts }: GraphShapes,
  graph: Graph,
  bodies: Map<Graph, ShapeResult>,
): ShapeResult {
  const result: ShapeResult = {
    shapes: new Map(),
    symbols: new Map(),
    constants: new Map(),
    unknown,
    conflicts,
    bodies,
    formulas(name) {
      return result.expressions(name)?.map((expression) => (expression === null ? '?' : textOf(expression))) ?? null;
    },
    expressions(name) {
      return values.get(name)?.dims.map(({ expression }) => expression) ?? null;
    },
  };
  for (const [name, value] of values) {
    if (value.sequence) continue;
    const dims = value.dims.map((dim) => dim.size);
    if (!dims.some(Number.isNaN)) result.shapes.set(name, { dataType: value.dataType, dims });
    result.symbols.set(
      name,
      value.dims.map((dim) => dim.symbol),
    );
    if (graph.initializers.has(name) || !value.data || value.data.values.some(Number.isNaN)) continue;
    result.constants.set(name, value.data);
  }
  return result;
}

/**
 * Shapes of every value of the main graph, and of the bodies of its control flow, for the given sizes of named
 * dimensions. Nodes must be in topological order. Operators without a rule, or whose output shape depends on data,
 * leave their outputs (and what is computed from them) in `unknown` unless the file declares the shape; nothing is
 * guessed. Semantics: onnx operator specifications up to operator set 25; com.microsoft operators as ONNX Runtime 1.30
 * documents them.
 * @param bindings name (or `<input>.<axis>` for a dimension without one) → size; see {@link defaultBindings}.
 * @throws SnugError E_DIMENSION when an input's dimension has no usable value.
 */
export function inferShapes(
  model: Pick<Model, 'graph' | 'opsets'>,
  bindings: Readonly<Record<string, number>>,
): ShapeResult {
  const { graph } = model;
  const run: InferenceRun = { opsets: model.opsets, bindings, bodies: new Map() };
  const inputs = fedInputs(model).map((input) => inputValue(input, bindings));
  const shapes = inferGraph(graph, inputs, run, nothingAround);
  const bodies = new Map<Graph, ShapeResult>();
  for (const [body, own] of run.bodies) bodies.set(body, resultOf(own, body, bodies));
  return resultOf(shapes, graph, bodies);
}

/** A gap in what is known of a model's shapes, and how far it reaches. */
export interface ShapeGapReach {
  /** The value where it begins. */
  value: string;
  node: string;
  reason: string;
  /** Everything that is unknown because of it, `value` included. */
  reaches: string[];
}

/** The gaps of a result, each with all it reaches, largest first. */
export function shapeGaps({ unknown }: Pick<ShapeResult, 'unknown'>): ShapeGapReach[] {
  const gaps = new Map<string, ShapeGapReach>();
  for (const { value, node, reason, cause } of unknown) {
    const gap = gaps.get(cause);
    if (gap) gap.reaches.push(value);
    else gaps.set(cause, { value: cause, node, reason, reaches: [value] });
  }
  return [...gaps.values()].sort((a, b) => b.reaches.length - a.reaches.length);
}
