import { getInt, intAttribute, intsAttribute } from '../../onnx/attribute.js';
import type { Node } from '../../onnx/model.js';
import { dataTypeBits } from '../../onnx/tensor.js';
import { is, type GraphEditor } from './editor.js';

const microsoft = 'com.microsoft';
const elementwise = ['QLinearAdd', 'QLinearMul', 'QLinearSigmoid', 'QLinearLeakyRelu'].map(
  (name) => `${microsoft}:${name}`,
);

/** Channels moved last, the other axes in order. */
function channelsLast<T>(dims: readonly T[]): T[] {
  return [...dims.slice(0, 1), ...dims.slice(2), ...dims.slice(1, 2)];
}

/**
 * Integer convolutions run with channels last: values are transposed where they enter such a region and where
 * they leave it (the runtime removes the transposes in between).
 */
export class ChannelsLast {
  /** Value → the same value with channels last. */
  private readonly moved = new Map<string, string>();

  constructor(private readonly editor: GraphEditor) {}

  apply(): void {
    for (const node of this.editor.ordered()) {
      if (is(node, 'QLinearConv')) this.window(node, node.opType);
      else if (is(node, 'MaxPool') && this.pools(node)) this.window(node, 'NhwcMaxPool');
      else if (is(node, ...elementwise)) this.elementwise(node);
      else if (is(node, `${microsoft}:QLinearConcat`)) this.concat(node);
      else if (is(node, `${microsoft}:QLinearGlobalAveragePool`)) this.globalPool(node);
    }
    for (const [original, value] of this.moved) {
      if (this.editor.consumers(original).length === 0 && !this.editor.outputs.has(original)) continue;
      const rank = this.editor.dims(original)?.length ?? 4;
      const order = [0, rank - 1, ...Array.from({ length: rank - 2 }, (_, axis) => axis + 1)];
      this.transpose(value, original, order);
    }
  }

  private transpose(from: string, to: string, order: number[]): void {
    const attributes = new Map([['perm', intsAttribute(order)]]);
    this.editor.add({ name: 'Transpose', opType: 'Transpose', domain: '', inputs: [from], outputs: [to], attributes });
  }

  private note(original: string): string {
    const value = `${original}/channels-last`;
    this.editor.describe(value, this.editor.dataType(original), channelsLast(this.editor.dims(original) ?? []));
    this.moved.set(original, value);
    return value;
  }

  private entering(original: string): string {
    const known = this.moved.get(original);
    if (known !== undefined) return known;
    // Whoever needs the original still has it: only this region reads the copy.
    const value = this.note(original);
    this.moved.delete(original);
    const rank = this.editor.dims(original)?.length ?? 4;
    this.transpose(original, value, channelsLast(Array.from({ length: rank }, (_, axis) => axis)));
    return value;
  }

  /** Whether a pool has 8-bit values, for which there is a kernel with channels last. */
  private pools(node: Node): boolean {
    return node.outputs.length === 1 && dataTypeBits(this.editor.dataType(node.inputs[0])) === 8;
  }

  private window(node: Node, opType: string): void {
    const inputs = [this.entering(node.inputs[0] ?? ''), ...node.inputs.slice(1)];
    const attributes = new Map([...node.attributes, ['channels_last', intAttribute(1)] as const]);
    const outputs = [this.note(node.outputs[0] ?? '')];
    this.editor.remove(node);
    this.editor.add({ ...node, opType, domain: microsoft, inputs, attributes, outputs });
  }

  private elementwise(node: Node): void {
    const inputs = node.inputs.map((input) => this.moved.get(input) ?? input);
    const tensors = is(node, `${microsoft}:QLinearAdd`, `${microsoft}:QLinearMul`) ? [0, 3] : [0];
    if (!tensors.every((index) => this.moved.has(node.inputs[index] ?? ''))) return;
    this.editor.update(node, { inputs, outputs: [this.note(node.outputs[0] ?? '')] });
  }

  private concat(node: Node): void {
    const rank = this.editor.dims(node.outputs[0])?.length ?? 4;
    const axis = getInt(node, 'axis', 0);
    // Scale and zero point of the output come first, then each part with its own.
    const parts = node.inputs.filter((_, index) => index % 3 === 2);
    if (rank < 3 || !parts.every((name) => this.moved.has(name))) return;
    const order = channelsLast(Array.from({ length: rank }, (_, position) => position));
    const attributes = new Map([['axis', intAttribute(order.indexOf(axis < 0 ? axis + rank : axis))]]);
    const inputs = node.inputs.map((input) => this.moved.get(input) ?? input);
    this.editor.update(node, { inputs, attributes, outputs: [this.note(node.outputs[0] ?? '')] });
  }

  private globalPool(node: Node): void {
    const value = this.moved.get(node.inputs[0] ?? '');
    if (value === undefined) return;
    const attributes = new Map([['channels_last', intAttribute(1)]]);
    const inputs = [value, ...node.inputs.slice(1)];
    this.editor.update(node, { inputs, attributes, outputs: [this.note(node.outputs[0] ?? '')] });
  }
}
