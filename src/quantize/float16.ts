import {
  bodiesOf,
  capturedNames,
  getInt,
  getTensor,
  intAttribute,
  makeNode,
  removeDeadNodesAndInitializers,
  replaceUses,
  tensorAttribute,
} from '../onnx/graph.js';
import { DataType, type Graph, type Node } from '../onnx/model.js';
import type { Editor } from './editor.js';
import { wideBodies } from './float16-bodies.js';
import { enclosedNodes } from './float16-islands.js';
import { toHalf } from './half-tensor.js';
import { typesAround, valueTypes } from './value-types.js';

/**
 * Operators that stay float32: no float16 form, or intermediate results that leave its range (squares and sums
 * in norms), or indices and ranges that need more digits.
 */
const blockedOperators = new Set(
  (
    'ArrayFeatureExtractor Binarizer CastMap CategoryMapper DictVectorizer FeatureVectorizer Imputer LabelEncoder ' +
    'LinearClassifier LinearRegressor Normalizer OneHotEncoder SVMClassifier SVMRegressor Scaler TreeEnsemble ' +
    'TreeEnsembleClassifier TreeEnsembleRegressor ZipMap NonMaxSuppression TopK RoiAlign Range CumSum Min Max ' +
    'Upsample EyeLike Multinomial Bernoulli RandomNormal RandomUniform RandomNormalLike RandomUniformLike ' +
    'Pow Sqrt Reciprocal ReduceMean ReduceSum ReduceSumSquare ReduceL2 ReduceLogSumExp DynamicQuantizeLinear'
  ).split(' '),
);

/** Whether an operator is left in float32 by {@link convertToFloat16}. */
export function staysFloat32(opType: string): boolean {
  return blockedOperators.has(opType);
}

/** Inputs that stay float32 although their operator computes in float16. */
const floatInputs: Record<string, readonly number[]> = { Resize: [1, 2], GroupNorm: [1, 2], SkipGroupNorm: [1, 2] };

/**
 * Converts a model to float16 in place, bodies of If, Loop and Scan included. Inputs and outputs, those of bodies too,
 * keep their types (casts inside), blocked operators and the readers of `keep` stay float32 with casts at their
 * borders, none between two of them.
 * @param keep names of weights that stay float32.
 * @param wide nodes that compute in float32, besides.
 */
export function convertToFloat16(editor: Editor, keep: ReadonlySet<string>, wide: Iterable<Node>): void {
  const { graph } = editor.model;
  const wideNodes = new Set(wide);
  new Conversion(graph, { editor, keep, wideNodes, wideBodies: wideBodies(graph, wideNodes) }).run();
}

/** What is the same for all graphs of a model. */
interface Plan {
  editor: Editor;
  keep: ReadonlySet<string>;
  wideNodes: Set<Node>;
  /** Bodies that stay float32. */
  wideBodies: ReadonlySet<Graph>;
}

class Conversion {
  private readonly editor: Editor;
  /** Of what this graph and those around it hold. */
  private readonly types: Map<string, number>;
  /** Values this graph holds, those around it aside. */
  private readonly own: Set<string>;
  /** Value that keeps its type → its float16 form. */
  private readonly halves = new Map<string, string>();
  /** Value → its float32 form, where one exists. */
  private readonly wide = new Map<string, string>();
  private readonly converted: Node[] = [];
  private readonly opset: number;

  constructor(
    private readonly graph: Graph,
    private readonly plan: Plan,
    /** For a body: the graph around it, and whose body it is. */
    private readonly outer: { conversion: Conversion; node: Node } | null = null,
  ) {
    this.editor = plan.editor;
    this.types = valueTypes(graph, outer === null ? undefined : typesAround(outer.node, graph, outer.conversion.types));
    this.own = new Set([
      ...graph.initializers.keys(),
      ...graph.inputs.map(({ name }) => name),
      ...graph.nodes.flatMap(({ outputs }) => outputs),
    ]);
    this.opset = this.editor.model.opsets.get('') ?? 0;
    for (const node of enclosedNodes(graph, (one) => this.isBlocked(one))) plan.wideNodes.add(node);
  }

  run(): void {
    const { editor, graph } = this;
    const initializers = [...graph.initializers.values()].filter((tensor) => tensor.dataType === DataType.FLOAT);
    const nodes = graph.nodes;
    graph.nodes = this.converted;
    const outputs = new Map(
      graph.outputs
        .filter((output) => this.isFloat(output.name) && nodes.some((node) => node.outputs.includes(output.name)))
        .map((output) => [output.name, editor.name(`${output.name}_half`)]),
    );
    // Results keep their names; inside, the value they are cast from is used.
    for (const node of nodes) {
      node.inputs = node.inputs.map((input) => outputs.get(input) ?? input);
      node.outputs = node.outputs.map((output) => outputs.get(output) ?? output);
      for (const body of bodiesOf(node)) {
        for (const name of capturedNames(body)) if (outputs.has(name)) replaceUses(body, name, outputs.get(name)!);
      }
    }
    for (const name of outputs.values()) this.hold(name);
    for (const { name } of graph.inputs) {
      if (!this.isFloat(name) || graph.initializers.has(name)) continue;
      const half = editor.name(`${name}_half`);
      this.halves.set(name, half);
      this.hold(half);
      this.wide.set(half, name);
      this.converted.push(this.cast(name, half, DataType.FLOAT16));
    }
    for (const tensor of initializers) {
      // A float32 form for those who need it; unused ones are removed afterwards.
      const wide = editor.name(`${tensor.name}_float`);
      graph.initializers.set(wide, { ...tensor, name: wide });
      graph.initializers.set(tensor.name, toHalf(tensor));
      this.wide.set(tensor.name, wide);
    }
    for (const node of nodes) {
      node.inputs = node.inputs.map((input) => this.half(input));
      if (this.isBlocked(node)) this.keepWide(node);
      else this.narrow(node);
    }
    for (const [output, half] of outputs) {
      const wide = this.wide.get(half);
      this.converted.push(
        wide === undefined
          ? this.cast(half, output, DataType.FLOAT)
          : makeNode('Identity', [wide], [output], {}, { name: editor.name(`${output}_wide`) }),
      );
    }
    for (const [name, info] of graph.valueInfo) {
      if (info.dataType === DataType.FLOAT) graph.valueInfo.delete(name);
    }
    if (this.outer !== null) removeDeadNodesAndInitializers(graph);
  }

  /** Takes a new value into account that has a float16 form of this name. */
  private hold(name: string): void {
    this.types.set(name, DataType.FLOAT);
    this.own.add(name);
  }

  /** The conversion of the graph that holds a value. */
  private holder(value: string): Conversion {
    return this.own.has(value) || this.outer === null ? this : this.outer.conversion.holder(value);
  }

  /** Float16 form of a float value. */
  private half(value: string): string {
    return this.holder(value).halves.get(value) ?? value;
  }

  private isFloat(value: string): boolean {
    return this.types.get(value) === DataType.FLOAT;
  }

  private cast(from: string, to: string, type: number): Node {
    return makeNode('Cast', [from], [to], { to: intAttribute(type) }, { name: this.editor.name(`${to}_cast`) });
  }

  private isBlocked(node: Node): boolean {
    if (this.plan.wideNodes.has(node) || staysFloat32(node.opType) || bodiesOf(node).length > 0) return true;
    // Scales of Q/DQ may be float16 from opset 19 on.
    const scaled = node.opType === 'DequantizeLinear' || node.opType === 'QuantizeLinear';
    if (scaled && node.domain === '' && this.opset < 19) return true;
    return node.inputs.some((input) => this.plan.keep.has(input));
  }

  /** Float32 form of a value, cast once however many read it. */
  private widened(value: string): string {
    const holder = this.holder(value);
    if (holder !== this) return holder.widened(value);
    let wide = this.wide.get(value);
    if (wide === undefined) {
      wide = this.editor.name(`${value}_float`);
      this.converted.push(this.cast(value, wide, DataType.FLOAT));
      this.wide.set(value, wide);
    }
    return wide;
  }

  private keepWide(node: Node): void {
    // Before the inputs are renamed: a body may take their types.
    for (const body of bodiesOf(node)) {
      if (this.plan.wideBodies.has(body)) this.widenCaptured(body);
      else new Conversion(body, this.plan, { conversion: this, node }).run();
    }
    node.inputs = node.inputs.map((input) => (this.isFloat(input) ? this.widened(input) : input));
    this.converted.push(node);
    node.outputs = node.outputs.map((output) => {
      if (output === '' || !this.isFloat(output)) return output;
      const wide = this.editor.name(`${output}_float`);
      this.wide.set(output, wide);
      this.converted.push(this.cast(wide, output, DataType.FLOAT16));
      return wide;
    });
  }

  /** A body that stays float32 reads float32. */
  private widenCaptured(body: Graph): void {
    for (const name of capturedNames(body)) {
      if (this.isFloat(name)) replaceUses(body, name, this.widened(this.half(name)));
    }
  }

  private narrow(node: Node): void {
    const fixed = floatInputs[node.opType] ?? [];
    node.inputs = node.inputs.map((input, i) =>
      fixed.includes(i) && this.isFloat(input) ? this.widened(input) : input,
    );
    if (node.opType === 'Cast' && getInt(node, 'to', 0) === DataType.FLOAT) {
      node.attributes.set('to', intAttribute(DataType.FLOAT16));
    }
    if (node.opType === 'ConstantOfShape' || node.opType === 'Constant') this.narrowConstant(node);
    this.converted.push(node);
  }

  private narrowConstant(node: Node): void {
    const output = node.outputs[0]!;
    if (!this.isFloat(output)) return;
    let tensor = getTensor(node, 'value');
    if (tensor === null) {
      const single = node.attributes.get('value_float');
      const several = node.attributes.get('value_floats');
      const values = several?.type === 'floats' ? several.value : [single?.type === 'float' ? single.value : 0];
      const array = Float32Array.from(values);
      const dims = several !== undefined || node.opType === 'ConstantOfShape' ? [array.length] : [];
      const bytes = new Uint8Array(array.buffer);
      const name = this.editor.addBytes(this.graph, `${output}_value`, DataType.FLOAT, dims, bytes);
      tensor = this.graph.initializers.get(name)!;
      this.graph.initializers.delete(name);
    }
    node.attributes.clear();
    node.attributes.set('value', tensorAttribute(toHalf(tensor)));
  }
}
