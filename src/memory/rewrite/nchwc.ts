import { DataType, type Attribute, type Node } from '../../onnx/model.js';
import { getInt, getInts, getString, intAttribute } from '../../onnx/attribute.js';
import { is, type GraphEditor } from './editor.js';

const domain = 'com.microsoft.nchwc';
const activations = ['Relu', 'Sigmoid', 'Tanh', 'LeakyRelu', 'HardSigmoid', 'HardSwish'];

/** A value that also exists with its channels in blocks. */
interface Blocked {
  value: string;
  channels: number;
  uses: number;
}

/**
 * Float convolutions and what follows them run on channels in blocks of the vector width (level `all` on x64);
 * weights are reordered and padded once, sums and activations melt into the convolution.
 */
export class BlockedLayout {
  private readonly blocked = new Map<string, Blocked>();
  /** Values put into blocks for their readers only: they still exist as they were. */
  private readonly entered = new Map<string, string>();

  constructor(
    private readonly editor: GraphEditor,
    private readonly block: number,
  ) {}

  apply(): void {
    for (const node of this.editor.ordered()) {
      const follows = this.blocked.has(node.inputs[0] ?? '');
      if (is(node, 'Conv', 'com.microsoft:FusedConv')) this.convolution(node);
      else if (is(node, 'MaxPool', 'AveragePool')) this.pool(node);
      else if (follows) this.follow(node);
    }
    for (const [original, { value, channels }] of this.blocked) {
      if (this.editor.consumers(original).length === 0 && !this.editor.outputs.has(original)) continue;
      const attributes = new Map([['channels', intAttribute(channels)]]);
      this.editor.add({
        name: 'ReorderOutput',
        opType: 'ReorderOutput',
        domain,
        inputs: [value],
        outputs: [original],
        attributes,
      });
    }
  }

  /** Operators that run on blocks only when their input already has them. */
  private follow(node: Node): void {
    if (is(node, 'GlobalAveragePool', 'GlobalMaxPool')) this.pool(node);
    else if (is(node, 'Add', 'Sum')) this.sum(node);
    else if (is(node, 'Mul')) this.product(node);
    else if (is(node, 'Concat')) this.concat(node);
    else if (is(node, 'BatchNormalization')) this.batchNorm(node);
    else if (is(node, 'Transpose')) this.channelsLast(node);
    else if (is(node, 'Resize', 'Upsample')) this.enlarge(node);
    else if (is(node, ...activations)) this.activation(node);
  }

  private padded(channels: number): number {
    return Math.ceil(channels / this.block) * this.block;
  }

  private note(original: string, channels: number): string {
    const value = this.describeBlocked(original, channels);
    this.blocked.set(original, { value, channels, uses: this.usesOf(original) });
    return value;
  }

  private usesOf(original: string): number {
    return this.editor.consumers(original).length + (this.editor.outputs.has(original) ? 1 : 0);
  }

  private describeBlocked(original: string, channels: number): string {
    const value = `${original}/blocked`;
    const sizes = [...(this.editor.dims(original) ?? [])];
    sizes[1] = this.padded(channels);
    this.editor.describe(value, DataType.FLOAT, sizes);
    return value;
  }

  private blockedInput(original: string, channels: number): string {
    const known = this.blocked.get(original)?.value ?? this.entered.get(original);
    if (known !== undefined) return known;
    const value = this.describeBlocked(original, channels);
    this.entered.set(original, value);
    this.editor.add({
      name: 'ReorderInput',
      opType: 'ReorderInput',
      domain,
      inputs: [original],
      outputs: [value],
      attributes: new Map(),
    });
    return value;
  }

  private convolution(node: Node): void {
    const { editor, block } = this;
    const [input = '', weight = '', bias] = node.inputs;
    const sizes = editor.initializers.get(weight)?.dims;
    const [output = ''] = node.outputs;
    if (!sizes || sizes.length !== 4 || editor.dataType(weight) !== DataType.FLOAT) return;
    const [filters = 0, depth = 0, height = 1, width = 1] = sizes;
    const groups = getInt(node, 'group', 1);
    const depthwise = groups > 1 && depth === 1 && filters === groups;
    const grouped = groups > 1 && !depthwise;
    if (grouped && (depth % block !== 0 || (filters / groups) % block !== 0)) return;
    const plainInput = groups === 1 && depth < block;
    const inner = plainInput || groups > 1 ? depth : this.padded(depth);
    const filter = editor.placeholder(`${weight}/blocked`, DataType.FLOAT, [
      this.padded(filters),
      inner,
      height,
      width,
    ]);
    const inputs = [plainInput ? input : this.blockedInput(input, depthwise ? groups : depth * groups), filter];
    if (bias)
      inputs.push(bias === '' ? '' : editor.placeholder(`${bias}/blocked`, DataType.FLOAT, [this.padded(filters)]));
    editor.remove(node);
    const name = `${output}_nchwc`;
    const attributes = new Map(node.attributes);
    if (depthwise) attributes.set('group', intAttribute(this.padded(filters)));
    editor.add({ ...node, opType: 'Conv', domain, name, inputs, outputs: [this.note(output, filters)], attributes });
  }

  private pool(node: Node): void {
    const [input = ''] = node.inputs;
    const [output = '', indices] = node.outputs;
    const sizes = this.editor.dims(input);
    const channels = sizes?.[1];
    if ((indices !== undefined && indices !== '') || sizes?.length !== 4) return;
    if (typeof channels !== 'number' || channels % this.block !== 0) return;
    if (this.editor.dataType(input) !== DataType.FLOAT) return;
    const inputs = [this.blockedInput(input, channels)];
    this.editor.remove(node);
    const pooled = { ...node, name: `${output}_nchwc`, inputs, outputs: [this.note(output, channels)] };
    // Reducing all pixels to one is the same in both layouts.
    this.editor.add(node.opType.startsWith('Global') ? pooled : { ...pooled, domain });
  }

  /** Lets an operator that works element by element run on the blocks. */
  private keep(node: Node, sources: readonly Blocked[], channels: number): void {
    const inputs = node.inputs.map((input, index) => sources[index]?.value ?? input);
    this.editor.update(node, { inputs, outputs: [this.note(node.outputs[0] ?? '', channels)] });
  }

  private sources(node: Node): Blocked[] | null {
    const found = node.inputs.flatMap((input) => this.blocked.get(input) ?? []);
    return found.length === node.inputs.length ? found : null;
  }

  private product(node: Node): void {
    const sources = this.sources(node);
    const [left, right] = sources ?? [];
    if (!sources || !left || !right || left.channels !== right.channels) return;
    if (this.editor.dims(left.value)?.join() === this.editor.dims(right.value)?.join())
      this.keep(node, sources, left.channels);
  }

  private concat(node: Node): void {
    const sources = this.sources(node);
    if (!sources || getInt(node, 'axis', 0) !== 1 || sources.some(({ channels }) => channels % this.block !== 0))
      return;
    this.keep(
      node,
      sources,
      sources.reduce((sum, { channels }) => sum + channels, 0),
    );
  }

  /** A normalization that no convolution took up runs as a depthwise 1 × 1 convolution. */
  private batchNorm(node: Node): void {
    const source = this.blocked.get(node.inputs[0] ?? '');
    const [output = ''] = node.outputs;
    const constant = node.inputs.slice(1).every((input) => this.editor.isConstant(input));
    if (!source || !constant || node.outputs.slice(1).some((other) => other !== '')) return;
    const width = this.padded(source.channels);
    const inputs = [
      source.value,
      this.editor.placeholder(`${output}/scale`, DataType.FLOAT, [width, 1, 1, 1]),
      this.editor.placeholder(`${output}/shift`, DataType.FLOAT, [width]),
    ];
    const attributes = new Map([['group', intAttribute(width)]]);
    this.editor.remove(node);
    const outputs = [this.note(output, source.channels)];
    this.editor.add({ ...node, opType: 'Conv', domain, name: `${output}_bn_nchwc`, inputs, outputs, attributes });
  }

  private channelsLast(node: Node): void {
    const source = this.blocked.get(node.inputs[0] ?? '');
    if (!source || getInts(node, 'perm', []).join() !== '0,2,3,1') return;
    const attributes = new Map([
      ['channels', intAttribute(source.channels)],
      ['channels_last', intAttribute(1)],
    ]);
    this.editor.remove(node);
    this.editor.add({
      ...node,
      name: 'ReorderOutput',
      opType: 'ReorderOutput',
      domain,
      inputs: [source.value],
      attributes,
    });
  }

  /** Nearest-neighbour enlarging by whole factors. */
  private enlarge(node: Node): void {
    const source = this.blocked.get(node.inputs[0] ?? '');
    const factors = this.editor.numbers(node.inputs[is(node, 'Upsample') ? 1 : 2]);
    const plain =
      is(node, 'Upsample') ||
      (getString(node, 'coordinate_transformation_mode', 'half_pixel') === 'asymmetric' &&
        getString(node, 'nearest_mode', 'round_prefer_floor') === 'floor');
    if (!source || getString(node, 'mode', 'nearest') !== 'nearest' || !plain || node.inputs.length > 3) return;
    if (factors?.length !== 4 || !factors.every((factor) => Number.isInteger(factor) && factor > 0)) return;
    if (factors[0] !== 1 || factors[1] !== 1) return;
    this.keep(node, [source], source.channels);
  }

  private isOpenConvolution(blocked: Blocked): Node | null {
    const node = this.editor.producer(blocked.value);
    return is(node, `${domain}:Conv`) && blocked.uses === 1 && !node.attributes.has('activation') ? node : null;
  }

  private sum(node: Node): void {
    const [left, right] = node.inputs.map((input) => this.blocked.get(input));
    const [output = ''] = node.outputs;
    if (!left || !right || node.inputs.length !== 2) return;
    const dims = (value: string) => this.editor.dims(value)?.join();
    if (dims(left.value) !== dims(right.value)) return;
    for (const [own, other] of [
      [left, right],
      [right, left],
    ] as const) {
      const conv = this.isOpenConvolution(own);
      if (!conv || conv.inputs.length > 3) continue;
      this.editor.remove(node);
      const inputs = [conv.inputs[0] ?? '', conv.inputs[1] ?? '', conv.inputs[2] ?? '', other.value];
      this.editor.update(conv, { inputs });
      this.blocked.set(output, { ...own, uses: this.usesOf(output) });
      return;
    }
    this.editor.update(node, { inputs: [left.value, right.value], outputs: [this.note(output, left.channels)] });
  }

  private activation(node: Node): void {
    const source = this.blocked.get(node.inputs[0] ?? '');
    const [output = ''] = node.outputs;
    if (!source) return;
    const conv = this.isOpenConvolution(source);
    if (conv) {
      this.editor.remove(node);
      const activation: Attribute = { type: 'string', value: new TextEncoder().encode(node.opType) };
      this.editor.update(conv, { attributes: new Map([...conv.attributes, ['activation', activation]]) });
      this.blocked.set(output, { ...source, uses: this.usesOf(output) });
      return;
    }
    this.editor.update(node, {
      inputs: [source.value, ...node.inputs.slice(1)],
      outputs: [this.note(output, source.channels)],
    });
  }
}

/**
 * Convolution, sum and activation of the plain layout run as one node (what the blocked layout left). Of two
 * convolutions that are added up, the one that stands first in the graph takes the sum.
 */
export function fuseConvolutionSums(editor: GraphEditor): void {
  const place = new Map(editor.nodes().map((node, index) => [node, index]));
  for (const add of editor.ordered()) {
    if (!is(add, 'Add') || !editor.has(add)) continue;
    const producers = add.inputs.flatMap((input) => editor.producer(input) ?? []);
    if (producers.length !== 2 || producers[0] === producers[1]) continue;
    const conv = producers
      .sort((a, b) => (place.get(a) ?? Infinity) - (place.get(b) ?? Infinity))
      .find((node) => is(node, 'Conv') && editor.onlyConsumer(node.outputs[0]) === add);
    const other = add.inputs.find((input) => input !== conv?.outputs[0]) ?? '';
    if (!conv || editor.dims(other)?.join() !== editor.dims(conv.outputs[0])?.join()) continue;
    const next = editor.onlyConsumer(add.outputs[0]);
    const last = is(next, ...activations) && !is(next, 'HardSwish') ? next : add;
    editor.remove(conv, add, last);
    const [input = '', weight = '', bias = ''] = conv.inputs;
    const inputs = [input, weight, bias, other];
    editor.add({ ...conv, opType: 'FusedConv', domain: 'com.microsoft', inputs, outputs: last.outputs });
  }
}
