import { intAttribute, makeNode, replaceUses } from '../onnx/graph.js';
import { DataType, type Graph, type Node } from '../onnx/model.js';
import { computedData, elementCount } from '../onnx/tensor.js';
import { addChannelTensors, insertBefore, type ChannelTensors } from './dequantize.js';
import { meanRounding } from './bias-correction.js';
import type { Editor } from './editor.js';
import { readFloatRange } from './floats.js';
import { followingBias } from './matmul-nbits.js';
import { channelAxis } from './axes.js';
import type { ActivationRange } from './ranges.js';
import type { WeightSite, WeightUse } from './sites.js';
import { poolSpatialMeans, staticRegion, type StaticRegion } from './static-region.js';

/** Scale and zero point of a uint8 activation: `(code − zeroPoint) · scale`, zero exactly representable. */
export function activationScale({ low, high }: ActivationRange): { scale: number; zeroPoint: number } {
  const bottom = Math.min(0, low);
  const top = Math.max(0, high);
  const scale = Math.fround((top - bottom) / 255);
  // Below the smallest normal number integer kernels lose the scale; such an activation is zero in effect.
  if (!(scale >= 2 ** -126)) return { scale: 1, zeroPoint: 0 };
  return { scale, zeroPoint: Math.max(0, Math.min(255, Math.round(-bottom / scale))) };
}

/** Biases must stay well inside int32 after division by the scales. */
const largestBiasCode = 2 ** 30;

/**
 * Static int8 (QDQ form, ONNX opset 13): int8 weights with one scale for each output channel, int32 biases,
 * uint8 activations with calibrated ranges. onnxruntime fuses the result to QLinearConv, QGemm, QLinearMatMul and
 * QLinearAdd, which keep activations in 8 bits from one to the next.
 */
export function applyStatic(editor: Editor, sites: readonly { site: WeightSite; uses: readonly WeightUse[] }[]): void {
  const { graph } = editor.model;
  const nodes = new Set(sites.flatMap(({ uses }) => uses.map((use) => use.node)));
  poolSpatialMeans(
    graph,
    sites.map(({ site }) => site),
  );
  const region = calibratedRegion(editor, staticRegion(graph, nodes));
  for (const { site, uses } of sites) {
    const axis = channelAxis(uses[0]!);
    const share = editor.meanShare(uses);
    const { dataType, zeroPoint } = editor.integerType;
    const zeroPoints = equalZeroPoints(editor, dataType, site.tensor.dims[axis]!, zeroPoint);
    const mean = meanOf(editor, uses);
    const tensors = addChannelTensors(editor, site, axis, {
      integer: true,
      quantize: () => ({ floors: biasFloors(editor, region, site, uses, axis), share }),
      ...(mean === null ? {} : { shiftOf: (codes) => meanRounding(uses[0]!, site.tensor, codes, mean) }),
    });
    for (const use of uses) quantizeInputs(editor, region, use, axis, tensors, zeroPoints, mean !== null);
  }
  for (const value of region.values) surround(editor, graph, region, value);
}

/** Zero points that are all alike, one initializer for all weights with as many channels. */
function equalZeroPoints(editor: Editor, dataType: number, channels: number, zeroPoint: number): string {
  const key = `${dataType} ${channels}`;
  const known = editor.equalZeroPoints.get(key);
  if (known !== undefined) return known;
  const bytes = new Uint8Array(channels).fill(zeroPoint);
  const name = editor.addBytes(editor.model.graph, `zero_points_${channels}`, dataType, [channels], bytes);
  editor.equalZeroPoints.set(key, name);
  return name;
}

/** Leaves out values without a calibrated range. */
function calibratedRegion(editor: Editor, region: StaticRegion): StaticRegion {
  const values = new Set([...region.values].filter((value) => rangeOf(editor, region, value) !== undefined));
  return { values, sameRange: region.sameRange };
}

function rangeSource(region: StaticRegion, value: string): string {
  let source = value;
  for (let next = region.sameRange.get(source); next !== undefined; next = region.sameRange.get(source)) source = next;
  return source;
}

function rangeOf(editor: Editor, region: StaticRegion, value: string): ActivationRange | undefined {
  return editor.ranges?.get(rangeSource(region, value));
}

function scaleOf(editor: Editor, region: StaticRegion, value: string): number {
  return activationScale(rangeOf(editor, region, value) ?? { low: 0, high: 0 }).scale;
}

/** Mean of each channel that a weight multiplies, where calibration saw it and all uses read the same value. */
function meanOf(editor: Editor, uses: readonly WeightUse[]): Float64Array | null {
  const [input, ...others] = new Set(uses.map(({ node }) => node.inputs[0]!));
  return others.length > 0 ? null : (editor.ranges?.channels?.get(input!)?.mean ?? null);
}

function biasTensorOf(editor: Editor, use: WeightUse): { name: string; values: Float32Array } | null {
  const name = use.node.inputs[2] ?? '';
  const tensor = editor.model.graph.initializers.get(name);
  return tensor === undefined ? null : { name, values: readFloatRange(tensor, 0, elementCount(tensor.dims)) };
}

/** Channels with tiny weights and a large bias need a coarser weight scale, or the bias overflows int32. */
function biasFloors(
  editor: Editor,
  region: StaticRegion,
  site: WeightSite,
  uses: readonly WeightUse[],
  axis: number,
): Float64Array {
  const floors = new Float64Array(site.tensor.dims[axis]!);
  for (const use of uses) {
    const input = scaleOf(editor, region, use.node.inputs[0]!);
    biasTensorOf(editor, use)?.values.forEach((value, channel) => {
      floors[channel] = Math.max(floors[channel]!, Math.abs(value) / (input * largestBiasCode));
    });
  }
  return floors;
}

function quantizeInputs(
  editor: Editor,
  region: StaticRegion,
  use: WeightUse,
  axis: number,
  weight: ChannelTensors,
  zeroPoints: string,
  corrected: boolean,
): void {
  const { graph, node } = use;
  const unpacked = editor.name(`${weight.codes}_unpacked`);
  const inputs = [weight.codes, weight.scales, zeroPoints];
  insertBefore(
    graph,
    node,
    makeNode('DequantizeLinear', inputs, [unpacked], { axis: intAttribute(axis) }, { name: unpacked }),
  );
  node.inputs[use.input] = unpacked;
  const { channels } = weight;
  if (use.role === 'matmul') {
    if (corrected) correctAddend(editor, use, weight);
    return;
  }
  const own = biasTensorOf(editor, use);
  if (own === null && !corrected) return;
  const bias = own ?? { name: `${weight.codes}_bias`, values: new Float32Array(channels) };
  const inputScale = scaleOf(editor, region, node.inputs[0]!);
  const scales = (): Float32Array => weight.readScales().map((scale) => scale * inputScale);
  const bytes = (values: Float32Array | Int32Array): Uint8Array => new Uint8Array(values.buffer);
  const codes = editor.add(
    graph,
    `${bias.name}_i32`,
    DataType.INT32,
    [channels],
    computedData(channels * 4, () => {
      const [biasScales, shift] = [scales(), weight.readShift()];
      const codeOf = (value: number, channel: number): number => (value + shift[channel]!) / biasScales[channel]!;
      return bytes(Int32Array.from(bias.values, (value, channel) => Math.round(codeOf(value, channel))));
    }),
  );
  const scaleName = editor.add(
    graph,
    `${bias.name}_i32_scales`,
    DataType.FLOAT,
    [channels],
    computedData(channels * 4, () => bytes(scales())),
  );
  const output = editor.name(`${bias.name}_unpacked`);
  insertBefore(
    graph,
    node,
    makeNode('DequantizeLinear', [codes, scaleName], [output], { axis: intAttribute(0) }, { name: output }),
  );
  node.inputs[2] = output;
}

/** A MatMul has no bias of its own: what its weight's rounding takes is given back by a constant added right after. */
function correctAddend(editor: Editor, use: WeightUse, weight: ChannelTensors): void {
  const { graph, node } = use;
  const added = followingBias(graph, node, weight.channels);
  if (added === null) return;
  const tensor = graph.initializers.get(added.bias)!;
  const data = computedData(weight.channels * 4, () => {
    const shift = weight.readShift();
    const values = readFloatRange(tensor, 0, weight.channels).map((value, channel) => value + shift[channel]!);
    return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  });
  const name = editor.add(graph, `${added.bias}_corrected`, DataType.FLOAT, tensor.dims, data);
  added.node.inputs = added.node.inputs.map((input) => (input === added.bias ? name : input));
}

/** Puts QuantizeLinear → DequantizeLinear behind a value; the value's name moves to the end of the pair. */
function surround(editor: Editor, graph: Graph, region: StaticRegion, value: string): void {
  const parameters = activationParameters(editor, region, value);
  const quantized = editor.name(`${value}_u8`);
  const producer = graph.nodes.findIndex((node) => node.outputs.includes(value));
  const raw = producer < 0 ? value : editor.name(`${value}_float`);
  const held = producer < 0 ? editor.name(`${value}_held`) : value;
  if (producer >= 0) {
    const { outputs } = graph.nodes[producer]!;
    outputs[outputs.indexOf(value)] = raw;
    const info = graph.valueInfo.get(value);
    if (info !== undefined) graph.valueInfo.set(raw, { ...info, name: raw });
  } else {
    replaceUses(graph, value, held);
  }
  const pair: Node[] = [
    makeNode('QuantizeLinear', [raw, ...parameters], [quantized], {}, { name: editor.name(`${value}_quantize`) }),
    makeNode('DequantizeLinear', [quantized, ...parameters], [held], {}, { name: editor.name(`${value}_dequantize`) }),
  ];
  graph.nodes.splice(producer + 1, 0, ...pair);
}

/** Names of the scale and zero point of a value, which it shares with what its range is taken from. */
function activationParameters(editor: Editor, region: StaticRegion, value: string): [string, string] {
  const source = rangeSource(region, value);
  const known = editor.activationParameters.get(source);
  if (known !== undefined) return known;
  const { graph } = editor.model;
  const { scale, zeroPoint } = activationScale(rangeOf(editor, region, value) ?? { low: 0, high: 0 });
  const made: [string, string] = [
    editor.addFloats(graph, `${source}_scale`, [], Float32Array.of(scale)),
    editor.addBytes(graph, `${source}_zero_point`, DataType.UINT8, [], Uint8Array.of(zeroPoint)),
  ];
  editor.activationParameters.set(source, made);
  return made;
}
