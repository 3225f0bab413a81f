import { SnugError } from '../contract/errors.js';
import {
  cloneModel,
  constantValue,
  freshName,
  getFloat,
  getInt,
  getInts,
  getString,
  indexGraph,
  intAttribute,
  makeNode,
  nodeLabel,
  stringAttribute,
  walkGraphs,
} from './graph.js';
import { DataType, type Graph, type Model, type Node } from './model.js';
import { defaultBindings, inferShapes, type Shape } from './shape.js';
import { encodeFloats, float32Tensor, int64Tensor, rawTensor, readFloat32 } from './tensor.js';
import { valuesUsed } from './topology.js';

/** Oldest opset {@link raiseToOpset13} reads: from 7 on, operators broadcast as they do today. */
const oldest = 7;
const newest = 13;

/**
 * Why a model of an older opset cannot be said in opset 13; null when {@link raiseToOpset13} can, or has nothing to do.
 * Answered by raising a clone, as an element type may turn out to be unknown.
 */
export function opset13Obstacle(model: Model): string | null {
  try {
    raiseToOpset13(cloneModel(model), defaultBindings(model, 1).dims);
    return null;
  } catch (error) {
    if (error instanceof SnugError) return String(error.params.obstacle ?? error.message);
    throw error;
  }
}

/**
 * What a model's operators say against opset 13. Between 7 and 13 only the operators named in this file changed in
 * more than types, and attributes that default to the old meaning (ONNX changelog).
 */
function operatorsObstacle(model: Model): string | null {
  const from = model.opsets.get('') ?? 0;
  if (from >= newest) return null;
  if (from < oldest) return `opset ${from} is too old`;
  if (model.functions.length > 0) return 'the model has functions of its own';
  let obstacle: string | null = null;
  const read = valuesRead(model.graph);
  walkGraphs(model.graph, (graph) => {
    for (const node of graph.nodes) obstacle ??= obstacleOf(graph, node, { from, read });
  });
  return obstacle;
}

const softmaxes = new Set(['Softmax', 'LogSoftmax', 'Hardmax']);
/** Operators whose numbers were attributes before opset 11, and the element types they take. */
const bounded = new Set(['Clip', 'Pad']);
const floats = new Set<number>([DataType.FLOAT, DataType.FLOAT16, DataType.DOUBLE]);

/** Values that something reads, in a graph and the bodies inside it. */
function valuesRead(graph: Graph): ReadonlySet<string> {
  const read = new Set<string>();
  walkGraphs(graph, ({ nodes, outputs }) => {
    for (const node of nodes) for (const name of valuesUsed(node)) read.add(name);
    for (const { name } of outputs) read.add(name);
  });
  return read;
}

function obstacleOf(
  graph: Graph,
  node: Node,
  { from, read }: { from: number; read: ReadonlySet<string> },
): string | null {
  const means = `${node.opType} (node ${nodeLabel(node)}) means something else there`;
  if (node.domain !== '') return null;
  const extraOutputs = node.outputs.slice(1).filter((output) => output !== '');
  switch (node.opType) {
    case 'Scan':
      return from < 9 ? means : null;
    case 'BatchNormalization':
      // Naming outputs of statistics changes results even where nothing reads them (seen in onnxruntime 1.30).
      return extraOutputs.length > 0 || getInt(node, 'spatial', 1) === 0 ? means : null;
    case 'Dropout':
      return extraOutputs.some((output) => read.has(output)) ? means : null;
    case 'Upsample':
    case 'Resize':
      return from < 11 && nearestMode(graph, node) === null ? `${means} as far as its scales tell` : null;
    default:
      return null;
  }
}

/** Scales of an Upsample or an old Resize, where they are known. */
function scalesOf(graph: Graph, node: Node): readonly number[] | null {
  const given = node.attributes.get('scales');
  if (given?.type === 'floats') return given.value;
  const tensor = constantValue(graph, indexGraph(graph), node.inputs[1] ?? '');
  return tensor ? Array.from(readFloat32(tensor)) : null;
}

/** Which neighbour was the nearest: the one below where an image grows, the one above where it shrinks; null = both. */
function nearestMode(graph: Graph, node: Node): 'floor' | 'ceil' | null {
  if (getString(node, 'mode', 'nearest') !== 'nearest') return 'floor';
  const scales = scalesOf(graph, node);
  if (scales?.every((scale) => scale >= 1)) return 'floor';
  return scales?.every((scale) => scale <= 1) ? 'ceil' : null;
}

/**
 * Says a model of opset 7 … 12 in opset 13, in place: what were attributes and are inputs today become constants,
 * and a softmax over several axes is taken over one, on a matrix. Does nothing from opset 13 on.
 * @param bindings sizes of open dimensions, to know ranks by
 * @throws SnugError E_NOT_SUPPORTED for what the operators of this file rule out, and for a bound of unknown element type
 */
export function raiseToOpset13(model: Model, bindings: Readonly<Record<string, number>>): void {
  const from = model.opsets.get('') ?? 0;
  if (from >= newest) return;
  const obstacle = operatorsObstacle(model);
  if (obstacle !== null) {
    throw notSaid(from, obstacle);
  }
  let needsShapes = false;
  walkGraphs(model.graph, ({ nodes }) => {
    needsShapes ||= nodes.some(({ opType }) => softmaxes.has(opType) || (from < 11 && bounded.has(opType)));
  });
  const result = needsShapes ? inferShapes(model, bindings) : null;
  walkGraphs(model.graph, (graph) => {
    const body = result?.bodies.get(graph);
    const shapeOf: ShapeOf = (value) => body?.shapes.get(value) ?? result?.shapes.get(value);
    graph.nodes = graph.nodes.flatMap((node) =>
      node.domain === '' ? new Legacy(model, graph, node, { from, shapeOf }).carriedOver() : [node],
    );
  });
  model.opsets.set('', newest);
}

const notSaid = (from: number, obstacle: string): SnugError =>
  new SnugError('E_NOT_SUPPORTED', `The model of opset ${from} cannot be said in opset 13: ${obstacle}.`, {
    action: 'Export the model again with opset 17 or newer.',
    params: { opset: from, obstacle },
  });

type ShapeOf = (value: string) => Shape | undefined;

/** One node of an older opset. */
class Legacy {
  readonly #model: Model;
  readonly #graph: Graph;
  readonly #node: Node;
  readonly #from: number;
  readonly #shapeOf: ShapeOf;

  constructor(model: Model, graph: Graph, node: Node, { from, shapeOf }: { from: number; shapeOf: ShapeOf }) {
    this.#model = model;
    this.#graph = graph;
    this.#node = node;
    this.#from = from;
    this.#shapeOf = shapeOf;
  }

  #name(part: string): string {
    return freshName(this.#model.graph, `${this.#node.name || (this.#node.outputs[0] ?? '')}_${part}`);
  }

  /** Makes an attribute of integers a constant; '' when it is absent. */
  #ints(attribute: string): string {
    const values = getInts(this.#node, attribute, null);
    this.#node.attributes.delete(attribute);
    if (values === null) return '';
    const name = this.#name(attribute);
    this.#graph.initializers.set(name, int64Tensor(name, [values.length], values));
    return name;
  }

  /** Makes an attribute a constant of the element type of the first input. */
  #float(attribute: string, value: number): string {
    const [x = ''] = this.#node.inputs;
    const dataType = this.#graph.initializers.get(x)?.dataType ?? this.#shapeOf(x)?.dataType ?? DataType.UNDEFINED;
    if (!floats.has(dataType)) {
      const { opType } = this.#node;
      throw notSaid(this.#from, `the element type of ${opType} (node ${nodeLabel(this.#node)}) is not known`);
    }
    this.#node.attributes.delete(attribute);
    const name = this.#name(attribute);
    this.#graph.initializers.set(name, rawTensor(name, dataType, [], encodeFloats([value], dataType)));
    return name;
  }

  #setInputs(...inputs: string[]): void {
    while (inputs.at(-1) === '') inputs.pop();
    this.#node.inputs = inputs;
  }

  carriedOver(): Node[] {
    const node = this.#node;
    const from = this.#from;
    const [x = ''] = node.inputs;
    switch (node.opType) {
      case 'Squeeze':
      case 'Unsqueeze':
      case 'ReduceSum':
        this.#setInputs(x, this.#ints('axes'));
        return [node];
      case 'Split':
        this.#setInputs(x, this.#ints('split'));
        return [node];
      case 'Softmax':
      case 'LogSoftmax':
      case 'Hardmax':
        return this.#softmax(this.#shapeOf(x)?.dims.length ?? null);
      case 'Dropout':
        // What is dropped while a model learns does not matter where it runs.
        node.attributes.delete('ratio');
        node.outputs.length = 1;
        return [node];
      case 'Clip':
        if (from < 11) this.#clip(x);
        return [node];
      case 'Pad':
        if (from < 11) this.#setInputs(x, this.#ints('pads'), this.#float('value', getFloat(node, 'value', 0)));
        return [node];
      case 'Slice':
        if (from < 10) this.#setInputs(x, this.#ints('starts'), this.#ints('ends'), this.#ints('axes'));
        return [node];
      case 'TopK':
        if (from < 10) this.#topK(x);
        return [node];
      case 'Upsample':
      case 'Resize':
        if (from < 11) this.#resize(x);
        return [node];
      case 'Scatter':
        node.opType = 'ScatterElements';
        return [node];
      case 'BatchNormalization':
        node.attributes.delete('spatial');
        return [node];
      default:
        return [node];
    }
  }

  /** Bounds were attributes, with the ends of float32 when left out. */
  #clip(x: string): void {
    const node = this.#node;
    const bound = (name: string): string =>
      node.attributes.has(name) ? this.#float(name, getFloat(node, name, 0)) : '';
    this.#setInputs(x, bound('min'), bound('max'));
  }

  #topK(x: string): void {
    const name = this.#name('k');
    this.#graph.initializers.set(name, int64Tensor(name, [1], [getInt(this.#node, 'k', 1)]));
    this.#node.attributes.delete('k');
    this.#setInputs(x, name);
  }

  /** Places were counted from the corner. */
  #resize(x: string): void {
    const node = this.#node;
    const nearest = nearestMode(this.#graph, node) ?? 'floor';
    let [, scales = ''] = node.inputs;
    const given = node.attributes.get('scales');
    if (given?.type === 'floats') {
      scales = this.#name('scales');
      this.#graph.initializers.set(scales, float32Tensor(scales, [given.value.length], Float32Array.from(given.value)));
      node.attributes.delete('scales');
    }
    node.opType = 'Resize';
    node.attributes.set('coordinate_transformation_mode', stringAttribute('asymmetric'));
    node.attributes.set('nearest_mode', stringAttribute(nearest));
    if (getString(node, 'mode', 'nearest') === 'bilinear') node.attributes.set('mode', stringAttribute('linear'));
    // Opset 13 allows the region to be left out.
    this.#setInputs(x, '', scales);
  }

  /** Everything from `axis` on was one axis. */
  #softmax(rank: number | null): Node[] {
    const node = this.#node;
    const axis = getInt(node, 'axis', 1);
    if (axis === -1 || (rank !== null && axis === rank - 1)) {
      node.attributes.set('axis', intAttribute(-1));
      return [node];
    }
    const [x = ''] = node.inputs;
    const [y = ''] = node.outputs;
    const [flat, shape, result] = ['flat', 'shape', 'rows'].map((part) => this.#name(part)) as [string, string, string];
    node.inputs = [flat];
    node.outputs = [result];
    node.attributes.set('axis', intAttribute(-1));
    return [
      makeNode('Flatten', [x], [flat], { axis: intAttribute(axis) }, { name: flat }),
      node,
      makeNode('Shape', [x], [shape], {}, { name: shape }),
      makeNode('Reshape', [result, shape], [y], {}, { name: this.#name('back') }),
    ];
  }
}
