import { SnugError } from '../contract/errors.js';
import { getFloat, getInt, getInts, getString } from './attribute.js';
import { DataType, type Graph, type Model, type Node, type Tensor, type TensorData, type ValueInfo } from './model.js';
import { inferControl, type BodyResult } from './shape-control.js';
import { evaluateData, maxKnownElements } from './shape-data.js';
import { named } from './shape-expression.js';
import { controlOperators, shapeRule } from './shape-rules.js';
import {
  constantData,
  fixed,
  hasOpenSize,
  ShapeConflict,
  ShapeGap,
  type InferredValue,
  type KnownData,
  type RuleContext,
  type ShapeDim,
} from './shape-types.js';
import { elementCount, readNumbers } from './tensor.js';
import { valuesUsed } from './topology.js';

/** A value whose shape (or a size of it) could not be worked out. */
export interface UnknownValue {
  value: string;
  node: string;
  reason: string;
  /** The value where the gap began; equal to `value` at the beginning. */
  cause: string;
}

/** A node whose inputs' sizes contradict each other: the model cannot run with them. */
export interface SizeConflict {
  node: string;
  reason: string;
}

/** What is known of the values of one graph; those of graphs around it are not repeated. */
export interface GraphShapes {
  readonly values: Map<string, InferredValue>;
  readonly unknown: UnknownValue[];
  readonly conflicts: SizeConflict[];
}

/** What all graphs of a model share while they are inferred. */
export interface InferenceRun {
  readonly opsets: Model['opsets'];
  readonly bindings: Readonly<Record<string, number>>;
  /** Bodies of control flow; of a body inferred several times the last result. */
  readonly bodies: Map<Graph, GraphShapes>;
}

/** Values of the graphs around a body, by name, with where their gaps began. */
export interface Surroundings {
  value(name: string): InferredValue | undefined;
  cause(name: string): string | undefined;
}

export const nothingAround: Surroundings = { value: () => undefined, cause: () => undefined };

/** Elements of small tensors, read once per tensor data (which never changes in place). */
const readData = new WeakMap<TensorData, KnownData>();

function tensorData(tensor: Tensor): KnownData | undefined {
  if (elementCount(tensor.dims) > maxKnownElements || tensor.dataType === DataType.STRING) return undefined;
  const known = readData.get(tensor.data);
  if (known) return known;
  let values: number[];
  try {
    values = readNumbers(tensor);
  } catch (error) {
    // Element types without numbers (complex, 8-bit floats) are never shapes.
    if (error instanceof SnugError && error.code === 'E_NOT_SUPPORTED') return undefined;
    throw error;
  }
  const data = constantData(values);
  readData.set(tensor.data, data);
  return data;
}

/** A constant tensor; its elements are read only when a rule asks for them. */
function constantValue(tensor: Tensor): InferredValue {
  return {
    dataType: tensor.dataType,
    dims: tensor.dims.map(fixed),
    get data() {
      return tensorData(tensor);
    },
  };
}

function constantOutput(node: Node): InferredValue {
  const numbers = (dataType: number, values: readonly number[], dims: number[]): InferredValue => ({
    dataType,
    dims: dims.map(fixed),
    data: constantData(values),
  });
  for (const [name, attribute] of node.attributes) {
    if (attribute.type === 'tensor' && name === 'value') return constantValue(attribute.value);
    if (attribute.type === 'int' && name === 'value_int') return numbers(DataType.INT64, [attribute.value], []);
    if (attribute.type === 'float' && name === 'value_float') return numbers(DataType.FLOAT, [attribute.value], []);
    if (attribute.type === 'ints' && name === 'value_ints')
      return numbers(DataType.INT64, attribute.value, [attribute.value.length]);
    if (attribute.type === 'floats' && name === 'value_floats')
      return numbers(DataType.FLOAT, attribute.value, [attribute.value.length]);
    if (attribute.type === 'string' && name === 'value_string') return { dataType: DataType.STRING, dims: [] };
    if (attribute.type === 'strings' && name === 'value_strings')
      return { dataType: DataType.STRING, dims: [fixed(attribute.value.length)] };
  }
  throw new ShapeGap('a constant that is no dense tensor');
}

/** What the file itself says of a dimension; null when it says nothing usable. */
function declaredDim(said: number | string | null, bindings: Readonly<Record<string, number>>): ShapeDim | null {
  if (typeof said === 'number') return fixed(said);
  const size = said !== null && Object.hasOwn(bindings, said) ? bindings[said] : undefined;
  return said === null || size === undefined ? null : { size, symbol: said, expression: named(said) };
}

/** The declared dimension wins where it has a name, the inferred one where it has a number (as the runtime merges them). */
function mergeDeclared(
  inferred: InferredValue,
  declared: ValueInfo | undefined,
  bindings: Readonly<Record<string, number>>,
): InferredValue {
  if (!declared?.dims || inferred.sequence || declared.dims.length !== inferred.dims.length) return inferred;
  const dims = inferred.dims.map((dim, axis): ShapeDim => {
    const said = declared.dims?.[axis] ?? null;
    if (Number.isNaN(dim.size)) {
      const known = declaredDim(said, bindings);
      return known ?? (typeof said === 'string' ? { ...dim, symbol: said } : dim);
    }
    if (typeof dim.symbol === 'number' || said === null || said === dim.size) {
      return said === dim.size ? { ...fixed(dim.size), expression: dim.expression ?? said } : dim;
    }
    return typeof said === 'string' ? { ...dim, symbol: said } : dim;
  });
  return 'data' in inferred ? { dataType: inferred.dataType, dims, data: inferred.data } : { ...inferred, dims };
}

/** What the file itself says of a value no rule can infer; null unless every dimension is fixed or bound. */
export function declaredValue(
  declared: ValueInfo | undefined,
  bindings: Readonly<Record<string, number>>,
): InferredValue | null {
  if (!declared?.dims || declared.dataType === 0) return null;
  const dims = declared.dims.map((dim) => declaredDim(dim, bindings));
  return dims.includes(null) ? null : { dataType: declared.dataType, dims: dims.filter((dim) => dim !== null) };
}

function contextOf(node: Node, opset: number, inputs: readonly (InferredValue | null)[]): RuleContext {
  return {
    node,
    opset,
    input(index) {
      const value = inputs[index];
      if (!value) throw new ShapeGap(`the shape of input "${node.inputs[index] ?? ''}" is unknown`);
      if (value.sequence) throw new ShapeGap(`input "${node.inputs[index] ?? ''}" is a sequence`);
      return value;
    },
    value: (index) => inputs[index] ?? null,
    has: (index) => (node.inputs[index] ?? '') !== '',
    int: (name, fallback) => getInt(node, name, fallback),
    ints: (name) => getInts(node, name, undefined),
    float: (name, fallback) => getFloat(node, name, fallback),
    text: (name, fallback) => getString(node, name, fallback),
    attribute: (name) => node.attributes.get(name),
  };
}

function inferPlain(node: Node, opset: number, inputs: readonly (InferredValue | null)[]): InferredValue[] {
  if (node.opType === 'Constant' && (node.domain === '' || node.domain === 'ai.onnx')) return [constantOutput(node)];
  const rule = shapeRule(node.domain, node.opType);
  if (!rule) throw new ShapeGap(`no shape rule for the operator ${node.opType}`);
  const outputs = rule(contextOf(node, opset, inputs));
  for (const output of outputs) {
    const wrong = output.dims.some(({ size }) => !Number.isNaN(size) && (!Number.isInteger(size) || size < 0));
    if (wrong) throw new ShapeGap('the sizes do not work out');
  }
  const data = evaluateData({ node, inputs, outputs });
  return outputs.map((output, index) => {
    const elements = data[index];
    // Elements none of which is known say no more than the shape does.
    return elements && (elements.values.length === 0 || !elements.values.every(Number.isNaN))
      ? { dataType: output.dataType, dims: output.dims, data: elements }
      : output;
  });
}

const openReason = 'its size is only known while running';

/** Infers one graph after the other node; the state is the graph's own values and where its gaps began. */
class GraphInference {
  readonly values = new Map<string, InferredValue>();
  readonly unknown: UnknownValue[] = [];
  readonly conflicts: SizeConflict[] = [];
  private readonly causes = new Map<string, string>();

  constructor(
    private readonly graph: Graph,
    private readonly run: InferenceRun,
    private readonly around: Surroundings,
  ) {}

  readonly surroundings: Surroundings = {
    value: (name) => this.values.get(name) ?? this.around.value(name),
    cause: (name) => this.causes.get(name) ?? (this.values.has(name) ? undefined : this.around.cause(name)),
  };

  /** @param reason why `value` is null or has open sizes, where it has. */
  set(name: string, value: InferredValue | null, node: Node | null, reason: string): void {
    if (value) this.values.set(name, value);
    if (value && !hasOpenSize(value)) return;
    const from = node ? [...valuesUsed(node)] : [];
    const cause = from.map((input) => this.surroundings.cause(input)).find((found) => found !== undefined) ?? name;
    this.causes.set(name, cause);
    this.unknown.push({ value: name, node: node?.name ?? '', reason: value ? openReason : reason, cause });
  }

  walk(): GraphShapes {
    const declared = new Map(this.graph.valueInfo);
    for (const output of this.graph.outputs) declared.set(output.name, output);
    for (const node of this.graph.nodes) {
      let outputs: (InferredValue | null)[] = [];
      let reason = '';
      try {
        outputs = this.infer(node);
      } catch (error) {
        if (!(error instanceof ShapeGap)) throw error;
        reason = error.message;
        if (error instanceof ShapeConflict) this.conflicts.push({ node: node.name, reason });
      }
      node.outputs.forEach((name, index) => {
        if (name === '') return;
        const inferred = outputs[index];
        const value = inferred
          ? mergeDeclared(inferred, declared.get(name), this.run.bindings)
          : declaredValue(declared.get(name), this.run.bindings);
        this.set(name, value, node, reason || `the ${node.opType} does not tell this output's shape`);
      });
    }
    return this;
  }

  private infer(node: Node): (InferredValue | null)[] {
    const opset = this.run.opsets.get(node.domain) ?? this.run.opsets.get('') ?? this.run.opsets.get('ai.onnx') ?? 1;
    const inputs = node.inputs.map((name) => (name === '' ? null : (this.surroundings.value(name) ?? null)));
    const standard = node.domain === '' || node.domain === 'ai.onnx';
    if (!standard || !controlOperators.has(node.opType)) return inferPlain(node, opset, inputs);
    return inferControl(node, opset, inputs, (body, values) => this.body(body, values));
  }

  private body(body: Graph, inputs: readonly (InferredValue | null)[]): BodyResult {
    const shapes = inferGraph(body, inputs, this.run, this.surroundings);
    this.run.bodies.set(body, shapes);
    const outputs = body.outputs.map(({ name }) => shapes.values.get(name) ?? this.surroundings.value(name) ?? null);
    return { outputs, nodes: body.nodes.length };
  }
}

/**
 * Infers the values of a graph whose inputs (in their order, initializers left out) are given; null = nothing known
 * but what the graph declares.
 */
export function inferGraph(
  graph: Graph,
  inputs: readonly (InferredValue | null)[],
  run: InferenceRun,
  around: Surroundings,
): GraphShapes {
  const inference = new GraphInference(graph, run, around);
  for (const tensor of graph.initializers.values()) inference.values.set(tensor.name, constantValue(tensor));
  const fed = graph.inputs.filter((input) => !graph.initializers.has(input.name));
  fed.forEach((input, index) => {
    const given = inputs[index];
    const value = given ? mergeDeclared(given, input, run.bindings) : declaredValue(input, run.bindings);
    inference.set(input.name, value, null, 'the file does not say how many dimensions it has');
  });
  return inference.walk();
}
