import { intAttribute, makeNode } from '../onnx/graph.js';
import { DataType, type Graph, type Node } from '../onnx/model.js';
import { elementCount } from '../onnx/tensor.js';
import { quantizeAxisBlocks } from './block-axis.js';
import { quantizeChannels, type ChannelCodes } from './channels.js';
import { scaleBytes, type Editor } from './editor.js';
import { channelAxis, summedAxis } from './axes.js';
import { axisBlock } from './plan.js';
import { storedScaleType } from './sample.js';
import type { WeightSite, WeightUse } from './sites.js';

/** int8 codes and scales of a weight as initializers; zero points are absent (0). */
export interface ChannelTensors {
  codes: string;
  scales: string;
  channels: number;
  /** The scales, computed when called. */
  readScales(): Float32Array;
  /** What {@link ChannelOptions.shiftOf} said, computed when called; zeros without. */
  readShift(): Float32Array;
}

/** How {@link addChannelTensors} quantizes. */
export interface ChannelOptions {
  /** For {@link quantizeChannels}, asked for when the weight is quantized. */
  quantize: () => Parameters<typeof quantizeChannels>[2];
  /** For integer kernels: uint8 around 128 where those need it, and the caller says so by zero points. */
  integer?: boolean;
  /** A number for each channel that depends on the codes. */
  shiftOf?: (codes: ChannelCodes) => Float32Array;
}

/**
 * Adds int8 codes and per-channel scales of a weight, quantized along `axis`.
 */
export function addChannelTensors(
  editor: Editor,
  site: WeightSite,
  axis: number,
  options: ChannelOptions,
): ChannelTensors {
  const { tensor, owner } = site;
  const channels = tensor.dims[axis]!;
  const integer = options.integer === true;
  const dataType = integer ? editor.integerType.dataType : DataType.INT8;
  const parts = editor.lazyParts<'codes' | 'scales' | 'shift'>(() => {
    const result = quantizeChannels(tensor, axis, options.quantize());
    const shift = options.shiftOf?.(result) ?? new Float32Array(channels);
    return {
      codes: integer ? editor.integerCodes(result.codes) : new Uint8Array(result.codes.buffer),
      scales: scaleBytes(result.scales, DataType.FLOAT),
      shift: scaleBytes(shift, DataType.FLOAT),
    };
  });
  const scaleData = parts.data('scales', channels * 4);
  const shiftData = parts.data('shift', channels * 4);
  const codeData = parts.data('codes', elementCount(tensor.dims));
  return {
    codes: editor.add(owner, `${tensor.name}_i8`, dataType, tensor.dims, codeData),
    scales: editor.add(owner, `${tensor.name}_i8_scales`, DataType.FLOAT, [channels], scaleData),
    channels,
    readScales: () => new Float32Array(scaleData.read().slice().buffer),
    readShift: () => new Float32Array(shiftData.read().slice().buffer),
  };
}

/**
 * Stores a weight as int8 with one scale for each output channel; a DequantizeLinear (opset 13) unpacks it for
 * its operator. One node for each reader: a shared one would keep the unpacked copy alive between them.
 */
export function encodeDequantize(editor: Editor, site: WeightSite, uses: readonly WeightUse[]): void {
  const axis = channelAxis(uses[0]!, site.tensor.dims.length);
  const share = editor.meanShare(uses);
  const tensors = addChannelTensors(editor, site, axis, { quantize: () => ({ share, nearest: editor.nearest }) });
  for (const use of uses) {
    insertBefore(use.graph, use.node, dequantizeNode(editor, site, use, [tensors.codes, tensors.scales], { axis }));
  }
}

/** As {@link encodeDequantize} with int4 in blocks along the summed axis (opset 21). */
export function encodeDequantizeBlocks(editor: Editor, site: WeightSite, uses: readonly WeightUse[]): void {
  const { tensor, owner } = site;
  const axis = summedAxis(uses[0]!, tensor.dims.length);
  const block = axisBlock(tensor.dims[axis]!, editor.blockSize);
  const scaleDims = tensor.dims.map((dim, at) => (at === axis ? Math.ceil(dim / block) : dim));
  const stored = storedScaleType(tensor);
  const share = editor.meanShare(uses);
  const parts = editor.lazyParts<'codes' | 'scales'>(() => {
    const { codes, scales } = quantizeAxisBlocks(tensor, axis, block, {
      halfScales: stored.half,
      share,
      nearest: editor.nearest,
    });
    return { codes, scales: scaleBytes(scales, stored.dataType) };
  });
  const elements = elementCount(tensor.dims);
  const codes = editor.add(
    owner,
    `${tensor.name}_i4`,
    DataType.INT4,
    tensor.dims,
    parts.data('codes', Math.ceil(elements / 2)),
  );
  const scales = editor.addScales(
    owner,
    `${tensor.name}_i4_scales`,
    tensor,
    stored.dataType,
    scaleDims,
    parts.data('scales', elementCount(scaleDims) * stored.bytes),
  );
  for (const use of uses) {
    insertBefore(use.graph, use.node, dequantizeNode(editor, site, use, [codes, scales], { axis, block_size: block }));
  }
}

function dequantizeNode(
  editor: Editor,
  site: WeightSite,
  use: WeightUse,
  inputs: string[],
  attributes: Record<string, number>,
): Node {
  const output = editor.name(`${site.tensor.name}_unpacked`);
  use.node.inputs[use.input] = output;
  return makeNode(
    'DequantizeLinear',
    inputs,
    [output],
    Object.fromEntries(Object.entries(attributes).map(([name, value]) => [name, intAttribute(value)])),
    { name: output },
  );
}

export function insertBefore(graph: Graph, node: Node, ...nodes: Node[]): void {
  graph.nodes.splice(graph.nodes.indexOf(node), 0, ...nodes);
}
