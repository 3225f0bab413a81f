import { SnugError } from '../contract/errors.js';
import { getInt, getInts, getString } from './attribute.js';
import { DataType, type Model, type Node, type Tensor, type TensorData, type ValueInfo } from './model.js';
import { bindingName, fedInputs } from './shape-bindings.js';
import { evaluateData, maxKnownElements } from './shape-data.js';
import { contractionRules } from './shape-ops-contraction.js';
import { elementwiseRules } from './shape-ops-elementwise.js';
import { layoutRules } from './shape-ops-layout.js';
import { microsoftRules } from './shape-ops-microsoft.js';
import {
  fixed,
  ShapeGap,
  type InferredValue,
  type KnownData,
  type RuleContext,
  type ShapeDim,
  type ShapeRules,
} from './shape-types.js';
import { elementCount, readNumbers } from './tensor.js';

export { batchDimension, defaultBindings } from './shape-bindings.js';
export type { KnownData } from './shape-types.js';

/** Element type and sizes of a value for one set of bindings. */
export interface Shape {
  dataType: number;
  dims: number[];
}

export interface ShapeResult {
  /** Every value whose shape is known: inputs, initializers and node outputs. */
  shapes: Map<string, Shape>;
  /**
   * The same values as a planner without bindings sees them: a number it knows, a dimension's name it can
   * compare, or null.
   */
  symbols: Map<string, (number | string | null)[]>;
  /** Elements of small tensors that follow from shapes and constants alone. */
  constants: Map<string, KnownData>;
  /** Values whose shape could not be worked out, and everything computed from them. */
  unknown: { value: string; node: string; reason: string }[];
}

const rules: ShapeRules = { ...elementwiseRules, ...layoutRules, ...contractionRules, ...microsoftRules };

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
  const data = { values, symbols: values, constant: true };
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
      return { size: boundSize(bindingName(input, axis) ?? '', bindings), symbol: dim };
    }),
  };
}

/** The declared dimension wins where it has a name, the inferred one where it has a number (as the runtime merges them). */
function mergeDeclared(inferred: InferredValue, declared: ValueInfo | undefined): InferredValue {
  if (!declared?.dims || declared.dims.length !== inferred.dims.length) return inferred;
  const dims = inferred.dims.map((dim, axis): ShapeDim => {
    const said = declared.dims?.[axis] ?? null;
    if (typeof dim.symbol === 'number' || said === null || said === dim.size)
      return said === dim.size ? fixed(dim.size) : dim;
    return typeof said === 'string' ? { size: dim.size, symbol: said } : dim;
  });
  return inferred.data === undefined
    ? { dataType: inferred.dataType, dims }
    : { dataType: inferred.dataType, dims, data: inferred.data };
}

/** What the file itself says of a value no rule can infer; null unless every dimension is fixed or bound. */
function declaredValue(
  declared: ValueInfo | undefined,
  bindings: Readonly<Record<string, number>>,
): InferredValue | null {
  if (!declared?.dims || declared.dataType === 0) return null;
  const dims: ShapeDim[] = [];
  for (const dim of declared.dims) {
    const size = typeof dim === 'string' ? bindings[dim] : dim;
    if (size === undefined || size === null) return null;
    dims.push({ size, symbol: dim });
  }
  return { dataType: declared.dataType, dims };
}

function context(node: Node, opset: number, inputs: (InferredValue | null)[]): RuleContext {
  return {
    node,
    opset,
    input(index) {
      const value = inputs[index];
      if (!value) throw new ShapeGap(`the shape of input "${node.inputs[index] ?? ''}" is unknown`);
      return value;
    },
    has: (index) => (node.inputs[index] ?? '') !== '',
    int: (name, fallback) => getInt(node, name, fallback),
    ints: (name) => getInts(node, name, undefined),
    text: (name, fallback) => getString(node, name, fallback),
    attribute: (name) => node.attributes.get(name),
  };
}

function constantOutput(node: Node): InferredValue {
  const numbers = (dataType: number, values: readonly number[], dims: number[]): InferredValue => ({
    dataType,
    dims: dims.map(fixed),
    data: { values, symbols: values, constant: true },
  });
  for (const [name, attribute] of node.attributes) {
    if (attribute.type === 'tensor' && name === 'value') return constantValue(attribute.value);
    if (attribute.type === 'int' && name === 'value_int') return numbers(DataType.INT64, [attribute.value], []);
    if (attribute.type === 'float' && name === 'value_float') return numbers(DataType.FLOAT, [attribute.value], []);
    if (attribute.type === 'ints' && name === 'value_ints')
      return numbers(DataType.INT64, attribute.value, [attribute.value.length]);
    if (attribute.type === 'floats' && name === 'value_floats')
      return numbers(DataType.FLOAT, attribute.value, [attribute.value.length]);
  }
  throw new ShapeGap('a constant that is no number tensor');
}

function inferNode(node: Node, opset: number, inputs: (InferredValue | null)[]): InferredValue[] {
  if (node.opType === 'Constant' && node.domain === '') return [constantOutput(node)];
  const rule = rules[node.domain === '' || node.domain === 'ai.onnx' ? node.opType : `${node.domain}:${node.opType}`];
  if (!rule) throw new ShapeGap(`no shape rule for the operator ${node.opType}`);
  const outputs = rule(context(node, opset, inputs));
  const first = outputs[0];
  if (first?.dims.some((dim) => !Number.isInteger(dim.size) || dim.size < 0))
    throw new ShapeGap('the sizes do not work out');
  if (first !== undefined) {
    const data = evaluateData(node, inputs, first);
    if (data !== null) outputs[0] = { ...first, data };
  }
  return outputs;
}

/**
 * Shapes of every value of the main graph for the given sizes of named dimensions. Nodes must be in
 * topological order. Operators without a rule, or whose output shape depends on data, leave their outputs
 * (and what is computed from them) in `unknown` unless the file declares the shape; nothing is guessed.
 * Semantics: onnx operator specifications; com.microsoft operators as ONNX Runtime 1.30 documents them.
 * @param bindings name (or `<input>.<axis>` for a dimension without one) → size; see {@link defaultBindings}.
 * @throws SnugError E_DIMENSION when an input's dimension has no usable value.
 */
export function inferShapes(
  model: Pick<Model, 'graph' | 'opsets'>,
  bindings: Readonly<Record<string, number>>,
): ShapeResult {
  const { graph } = model;
  const values = new Map<string, InferredValue>();
  const result: ShapeResult = { shapes: new Map(), symbols: new Map(), constants: new Map(), unknown: [] };
  for (const tensor of graph.initializers.values()) values.set(tensor.name, constantValue(tensor));
  for (const input of fedInputs(model)) {
    const value = inputValue(input, bindings);
    if (value) values.set(input.name, value);
    else
      result.unknown.push({ value: input.name, node: '', reason: 'the file does not say how many dimensions it has' });
  }
  const declared = new Map(graph.valueInfo);
  for (const output of graph.outputs) declared.set(output.name, output);
  for (const node of graph.nodes) {
    const opset = model.opsets.get(node.domain) ?? model.opsets.get('') ?? 1;
    const inputs = node.inputs.map((name) => values.get(name) ?? null);
    let outputs: InferredValue[] = [];
    let reason = '';
    try {
      outputs = inferNode(node, opset, inputs);
    } catch (error) {
      if (!(error instanceof ShapeGap)) throw error;
      reason = error.message;
    }
    node.outputs.forEach((name, index) => {
      if (name === '') return;
      const inferred = outputs[index];
      const value = inferred
        ? mergeDeclared(inferred, declared.get(name))
        : declaredValue(declared.get(name), bindings);
      if (value) values.set(name, value);
      else result.unknown.push({ value: name, node: node.name, reason: reason || `${node.opType} has no such output` });
    });
  }
  for (const [name, value] of values) {
    result.shapes.set(name, { dataType: value.dataType, dims: value.dims.map((dim) => dim.size) });
    result.symbols.set(
      name,
      value.dims.map((dim) => dim.symbol),
    );
    if (!graph.initializers.has(name) && value.data) result.constants.set(name, value.data);
  }
  return result;
}
