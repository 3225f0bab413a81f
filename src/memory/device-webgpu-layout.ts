import { getInt, getInts, intsAttribute } from '../onnx/attribute.js';
import type { Node } from '../onnx/model.js';
import { operatorKey } from './inplace.js';
import { is, type GraphEditor } from './rewrite/editor.js';

const convolutions = ['Conv', 'com.microsoft:FusedConv', 'ConvTranspose'];
const pools = ['MaxPool', 'AveragePool', 'GlobalAveragePool', 'GlobalMaxPool'];
const isSeed = (node: Node): boolean => [...convolutions, ...pools].includes(operatorKey(node));

const elementwise =
  'Add Sub Mul Div Pow Relu LeakyRelu Sigmoid Tanh Elu Clip HardSigmoid HardSwish Erf Sqrt Exp Neg Abs Cast Gelu com.microsoft:Gelu com.microsoft:QuickGelu com.microsoft:FastGelu'.split(
    ' ',
  );

/**
 * Convolutions and pools run with channels last on WebGPU: values are transposed where they enter a region of
 * such nodes and where they leave it. The transposes stand in the graph as copies (they hold as much either way), so
 * that sizes keep their meaning.
 */
export class WebgpuLayout {
  /** Values with channels last. */
  readonly #moved = new Set<string>();
  readonly #entered = new Map<string, string>();

  constructor(private readonly editor: GraphEditor) {}

  apply(): void {
    for (const node of this.editor.ordered()) {
      if (isSeed(node)) this.#seed(node);
      else if (this.#follows(node)) for (const output of node.outputs) this.#moved.add(output);
    }
    for (const value of this.#moved) this.#leave(value);
  }

  #seed(node: Node): void {
    const [value = ''] = node.inputs;
    if (this.#rank(node) !== 4) return;
    if (!this.#moved.has(value)) this.editor.update(node, { inputs: [this.#enter(value), ...node.inputs.slice(1)] });
    for (const output of node.outputs) this.#moved.add(output);
  }

  /** Of the node's input; sizes computed while running may hide it, then filters or kernels tell. */
  #rank(node: Node): number | undefined {
    const filters: readonly unknown[] | undefined = this.editor.dims(node.inputs[1] ?? '');
    const kernel = getInts(node, 'kernel_shape', undefined);
    return this.editor.dims(node.inputs[0])?.length ?? filters?.length ?? (kernel && kernel.length + 2);
  }

  #enter(value: string): string {
    const known = this.#entered.get(value);
    if (known !== undefined) return known;
    const copy = `${value}/channels-last`;
    this.#copy(value, copy);
    this.#entered.set(value, copy);
    return copy;
  }

  #copy(from: string, to: string): void {
    this.editor.describe(to, this.editor.dataType(from), [...(this.editor.dims(from) ?? [])]);
    const attributes = new Map([['perm', intsAttribute([0, 1, 2, 3])]]);
    this.editor.add({ name: to, opType: 'Transpose', domain: '', inputs: [from], outputs: [to], attributes });
  }

  /** Whether a node can do its work in either layout and gets nothing but values with channels last. */
  #follows(node: Node): boolean {
    const values = node.inputs.filter((name) => name !== '' && !this.editor.isConstant(name));
    if (values.length === 0 || !values.every((name) => this.#moved.has(name))) return false;
    if (is(node, ...elementwise)) return true;
    if (is(node, 'Concat')) return getInt(node, 'axis', 0) !== 0;
    return is(node, 'ReduceMean', 'Resize', 'Pad');
  }

  /** Users that need the usual layout get it from one copy. */
  #leave(value: string): void {
    if ((this.editor.dims(value)?.length ?? 4) !== 4) return;
    const outside = this.editor
      .consumers(value)
      .filter((user) => !isSeed(user) && !user.outputs.some((output) => this.#moved.has(output)));
    const fetched = this.editor.outputs.has(value);
    if (outside.length === 0 && !fetched) return;
    const copy = `${value}/channels-first`;
    this.#copy(value, copy);
    for (const user of outside) {
      // Sizes need no data.
      if (operatorKey(user) === 'Shape') continue;
      this.editor.update(user, { inputs: user.inputs.map((input) => (input === value ? copy : input)) });
    }
  }
}
