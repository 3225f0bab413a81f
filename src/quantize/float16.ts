import {
  bodiesOf,
  capturedNames,
  getInt,
  getTensor,
  intAttribute,
  makeNode,
  replaceUses,
  tensorAttribute,
} from '../onnx/graph.js';
import { float32ToFloat16Bits } from '../onnx/half.js';
import { DataType, type Graph, type Node, type Tensor, type TensorData } from '../onnx/model.js';
import { assertRange, elementCount } from '../onnx/tensor.js';
import type { Editor } from './editor.js';
import { enclosedNodes } from './float16-islands.js';
import { readFloatRange } from './floats.js';
import { valueTypes } from './value-types.js';

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

const largestHalf = 65504;
const smallestHalf = 2 ** -24;

/**
 * In place: large finite values clamp to what float16 holds. Tiny ones of a tensor round as they do, to zero perhaps;
 * a single number (the epsilon of a division) does not become zero.
 */
function clampToHalf(values: Float32Array, single: boolean): Float32Array {
  for (let i = 0; i < values.length; i++) {
    const value = values[i]!;
    if (value > largestHalf && value < Infinity) values[i] = largestHalf;
    else if (value < -largestHalf && value > -Infinity) values[i] = -largestHalf;
    else if (single && value > 0 && value < smallestHalf) values[i] = smallestHalf;
    else if (single && value < 0 && value > -smallestHalf) values[i] = -smallestHalf;
  }
  return values;
}

/** A float tensor's bytes as float16, converted range by range. */
function halfData(tensor: Tensor): TensorData {
  const byteLength = elementCount(tensor.dims) * 2;
  const readRange = (offset: number, length: number): Uint8Array => {
    assertRange(byteLength, offset, length);
    const first = Math.floor(offset / 2);
    const count = Math.ceil((offset + length) / 2) - first;
    const halves = float32ToFloat16Bits(clampToHalf(readFloatRange(tensor, first, count), byteLength === 2));
    return new Uint8Array(halves.buffer, offset - first * 2, length);
  };
  return { byteLength, origin: 'computed', read: () => readRange(0, byteLength), readRange };
}

function toHalf(tensor: Tensor): Tensor {
  return { ...tensor, dataType: DataType.FLOAT16, data: halfData(tensor) };
}

/**
 * Converts a model to float16 in place. Inputs and outputs keep their types (casts inside), blocked operators,
 * nodes with bodies and the readers of `keep` stay float32 with casts at their borders, none between two of them.
 * @param keep names of weights that stay float32.
 * @param wide nodes that compute in float32, besides.
 */
export function convertToFloat16(editor: Editor, keep: ReadonlySet<string>, wide: Iterable<Node>): void {
  const { graph } = editor.model;
  const conversion = new Conversion(editor, graph, keep, new Set(wide));
  conversion.run();
}

class Conversion {
  private readonly types: Map<string, number>;
  /** Value → its float32 form, where one exists. */
  private readonly wide = new Map<string, string>();
  private readonly converted: Node[] = [];
  private readonly opset: number;

  constructor(
    private readonly editor: Editor,
    private readonly graph: Graph,
    private readonly keep: ReadonlySet<string>,
    private readonly wideNodes: Set<Node>,
  ) {
    this.types = valueTypes(graph);
    this.opset = editor.model.opsets.get('') ?? 0;
    for (const node of enclosedNodes(graph, (one) => this.isBlocked(one))) wideNodes.add(node);
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
    for (const name of outputs.values()) this.types.set(name, DataType.FLOAT);
    const inputs = new Map<string, string>();
    for (const input of graph.inputs) {
      if (input.dataType !== DataType.FLOAT || graph.initializers.has(input.name)) continue;
      const half = editor.name(`${input.name}_half`);
      inputs.set(input.name, half);
      this.types.set(half, DataType.FLOAT);
      this.wide.set(half, input.name);
      this.converted.push(this.cast(input.name, half, DataType.FLOAT16));
    }
    for (const tensor of initializers) {
      // A float32 form for those who need it; unused ones are removed afterwards.
      const wide = editor.name(`${tensor.name}_float`);
      graph.initializers.set(wide, { ...tensor, name: wide });
      graph.initializers.set(tensor.name, toHalf(tensor));
      this.wide.set(tensor.name, wide);
    }
    for (const node of nodes) {
      node.inputs = node.inputs.map((input) => inputs.get(input) ?? input);
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
  }

  private isFloat(value: string): boolean {
    return this.types.get(value) === DataType.FLOAT;
  }

  private cast(from: string, to: string, type: number): Node {
    return makeNode('Cast', [from], [to], { to: intAttribute(type) }, { name: this.editor.name(`${to}_cast`) });
  }

  private isBlocked(node: Node): boolean {
    if (this.wideNodes.has(node) || staysFloat32(node.opType) || bodiesOf(node).length > 0) return true;
    // Scales of Q/DQ may be float16 from opset 19 on.
    const scaled = node.opType === 'DequantizeLinear' || node.opType === 'QuantizeLinear';
    if (scaled && node.domain === '' && this.opset < 19) return true;
    return node.inputs.some((input) => this.keep.has(input));
  }

  /** Float32 form of a value, cast once however many read it. */
  private widened(value: string): string {
    let wide = this.wide.get(value);
    if (wide === undefined) {
      wide = this.editor.name(`${value}_float`);
      this.converted.push(this.cast(value, wide, DataType.FLOAT));
      this.wide.set(value, wide);
    }
    return wide;
  }

  private keepWide(node: Node): void {
    node.inputs = node.inputs.map((input) => (this.isFloat(input) ? this.widened(input) : input));
    for (const body of bodiesOf(node)) {
      for (const name of capturedNames(body)) {
        if (this.isFloat(name)) replaceUses(body, name, this.widened(name));
      }
    }
    this.converted.push(node);
    node.outputs = node.outputs.map((output) => {
      if (output === '' || !this.isFloat(output)) return output;
      const wide = this.editor.name(`${output}_float`);
      this.wide.set(output, wide);
      this.converted.push(this.cast(wide, output, DataType.FLOAT16));
      return wide;
    });
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
