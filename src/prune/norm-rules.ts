import { floatAttribute, getFloat, getInt, getInts, makeNode } from '../onnx/graph.js';
import { DataType, type Tensor } from '../onnx/model.js';
import { computedData, float32ToFloat16Bits, readFloat32 } from '../onnx/tensor.js';
import type { Atom } from './axis-atoms.js';
import { passBatchAndChannels, samePerAxis, wrap, type AxisGraph, type AxisRule, type Mend } from './axis-graph.js';
import { countAttribute } from './sizes.js';

const unit = 'normalized axis';

const channelNorm: AxisRule = (graph, node) => {
  const [input, output] = [graph.axes(node.inputs[0]), graph.axes(node.outputs[0])];
  if (input === null || output === null || node.outputs.length > 1 || input.length < 2) return false;
  for (const name of node.inputs.slice(1)) {
    const vector = graph.axes(name);
    if (vector?.length !== 1) return false;
    graph.atoms.unite(vector[0]!, input[1]!);
  }
  // Statistics of instance norm are taken over everything behind the channel.
  if (node.opType === 'InstanceNormalization') {
    for (const axis of input.slice(2)) graph.atoms.block(axis, unit);
    graph.mark(input[1], 'norm groups');
  }
  return samePerAxis(graph, input, output);
};

/** Whole groups can go; within a group the statistics would change. */
const groupNorm: AxisRule = (graph, node) => {
  const [input, output] = [graph.axes(node.inputs[0]), graph.axes(node.outputs[0])];
  const count = getInt(node, 'num_groups', 0);
  if (input === null || output === null || input.length < 3 || count < 1 || input[1]!.size % count !== 0) return false;
  const groups = graph.atoms.fresh(count);
  const inner = graph.atoms.fresh(input[1]!.size / count);
  graph.atoms.block(inner, unit);
  for (const axis of input.slice(2)) graph.atoms.block(axis, unit);
  graph.atoms.unite(input[1]!, graph.atoms.product([groups, inner]));
  for (const name of node.inputs.slice(1)) {
    const vector = graph.axes(name);
    if (vector?.length !== 1) return false;
    graph.atoms.unite(vector[0]!, vector[0]!.size === input[1]!.size ? input[1]! : groups);
  }
  graph.mark(groups, 'norm groups');
  graph.mends.set(node, countAttribute('num_groups', groups));
  return samePerAxis(graph, input, output);
};

const softmax: AxisRule = (graph, node) => {
  const [input, output] = [graph.axes(node.inputs[0]), graph.axes(node.outputs[0])];
  if (input === null) return false;
  const old = graph.opset(node) < 13;
  const axis = wrap(getInt(node, 'axis', old ? 1 : -1), input.length);
  const last = old ? input.length : axis + 1;
  for (let at = axis; at < last; at++) graph.atoms.block(input[at]!, 'softmax');
  return samePerAxis(graph, input, output);
};

/** Axes a node blocks while the others pass. */
function passExcept(
  blocked: (graph: AxisGraph, node: Parameters<AxisRule>[1], rank: number) => readonly number[] | null,
  reason: string,
): AxisRule {
  return (graph, node) => {
    const [input, output] = [graph.axes(node.inputs[0]), graph.axes(node.outputs[0])];
    const axes = input === null ? null : blocked(graph, node, input.length);
    if (input === null || axes === null) return false;
    for (const axis of axes) graph.atoms.block(input[wrap(axis, input.length)]!, reason);
    return samePerAxis(graph, input, output);
  };
}

const pool: AxisRule = (graph, node) => {
  const [input, output] = [graph.axes(node.inputs[0]), graph.axes(node.outputs[0])];
  if (input === null || output === null || node.outputs.length > 1 || input.length < 3) return false;
  return passBatchAndChannels(graph, input, output, 'pooled axis');
};

/** Dividing by a length: zeros that are left out must not make the divisor smaller. */
const lpNorm: AxisRule = (graph, node) => {
  const [input, output] = [graph.axes(node.inputs[0]), graph.axes(node.outputs[0])];
  if (input === null) return false;
  graph.sink(node, 0, wrap(getInt(node, 'axis', -1), input.length));
  return samePerAxis(graph, input, output);
};

/** Mean and variance over the kept values only: not the same as leaving the removed ones out. */
function layerNorm(scale: number): AxisRule {
  return (graph, node) => {
    const input = graph.axes(node.inputs[0]);
    if (input === null) return false;
    const axis = wrap(getInt(node, 'axis', -1), input.length);
    const normalized = input.slice(axis);
    for (const one of normalized.slice(0, -1)) graph.atoms.block(one, unit);
    const last = normalized.at(-1)!;
    graph.mark(last, 'normalized');
    if (normalized.length > 1) graph.atoms.block(last, unit);
    graph.approximations.push({ axis: last, reason: 'layer norm' });
    graph.sink(node, 0, input.length - 1);
    return uniteVectors(graph, node.inputs.slice(scale), input) && uniteOutputs(graph, node.outputs, input);
  };
}

/**
 * Root mean square over `d` values. With zeros left out the mean is over fewer values, which a scale of √(d/d′) on
 * gamma and d/d′ on epsilon undoes exactly.
 */
function rootMeanSquareNorm(scale: number, epsilonDefault: number): AxisRule {
  return (graph, node) => {
    const input = graph.axes(node.inputs[0]);
    if (input === null) return false;
    const axis = wrap(getInt(node, 'axis', -1), input.length);
    const last = input.at(-1)!;
    graph.mark(last, 'normalized');
    const gamma = graph.constant(node.inputs[scale]);
    const statistics = node.outputs.slice(1, 3).some((name) => name !== '');
    if (axis !== input.length - 1 || gamma === undefined || scaled(gamma, 1) === null || statistics) {
      for (const one of input.slice(axis)) graph.atoms.block(one, unit);
    }
    graph.sink(node, 0, input.length - 1);
    if (scale > 1) {
      graph.sink(node, 1, graph.axes(node.inputs[1])!.length - 1);
      if ((node.inputs[3] ?? '') !== '') graph.sink(node, 3, 0);
    }
    graph.mends.set(node, (current, context) => {
      if (!context.changed(last)) return current;
      const factor = last.size / context.size(last);
      const name = current.inputs[scale]!;
      const inputs = [...current.inputs];
      inputs[scale] = context.constant(`${name}_pruned`, (fresh) => ({
        ...scaled(context.tensor(name), Math.sqrt(factor))!,
        name: fresh,
      }));
      const epsilon = getFloat(current, 'epsilon', epsilonDefault) * factor;
      return { ...current, inputs, attributes: new Map(current.attributes).set('epsilon', floatAttribute(epsilon)) };
    });
    return uniteVectors(graph, node.inputs.slice(scale), input) && uniteOutputs(graph, node.outputs, input);
  };
}

/** Skip inputs are added before the norm, so they have the input's axes. */
function withSkip(rule: AxisRule): AxisRule {
  return (graph, node) => {
    const [input, skip] = [graph.axes(node.inputs[0]), graph.axes(node.inputs[1])];
    if (input === null || skip === null) return false;
    skip.forEach((atom, at) => {
      const other = input[at + input.length - skip.length]!;
      if (atom.size === other.size) graph.atoms.unite(atom, other);
    });
    return rule(graph, node);
  };
}

/** Scale and bias vectors along the last axes. */
function uniteVectors(graph: AxisGraph, names: readonly string[], input: readonly Atom[]): boolean {
  return names.every((name) => {
    const vector = name === '' ? [] : graph.axes(name);
    vector?.forEach((atom, at) => {
      if (atom.size > 1) graph.atoms.unite(atom, input[at + input.length - vector.length]!);
    });
    return vector !== null;
  });
}

/** Outputs of the input's shape are united with it; statistics (last axis 1) only outside the norm. */
function uniteOutputs(graph: AxisGraph, names: readonly string[], input: readonly Atom[]): boolean {
  return names.every((name) => {
    if (name === '') return true;
    const output = graph.axes(name);
    if (output?.length !== input.length) return false;
    output.forEach((atom, at) => {
      if (atom.size === input[at]!.size) graph.atoms.unite(atom, input[at]!);
    });
    return true;
  });
}

/** The tensor times a number, computed when it is read; null when its type has no such product. */
function scaled(tensor: Tensor, factor: number): Tensor | null {
  if (tensor.dataType !== DataType.FLOAT && tensor.dataType !== DataType.FLOAT16) return null;
  const produce = (): Uint8Array => {
    const values = readFloat32(tensor).map((value) => value * factor);
    const array = tensor.dataType === DataType.FLOAT16 ? float32ToFloat16Bits(values) : values;
    return new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
  };
  return { ...tensor, data: computedData(tensor.data.byteLength, produce) };
}

/** Reductions to which a zero adds nothing. */
const additive = new Set(['ReduceSum', 'ReduceMean', 'ReduceL1', 'ReduceL2', 'ReduceSumSquare']);

const reduce: AxisRule = (graph, node) => {
  const [input, output] = [graph.axes(node.inputs[0]), graph.axes(node.outputs[0])];
  if (input === null || output === null) return false;
  const given = node.inputs[1] ?? '';
  const listed = given === '' ? undefined : graph.elements(given);
  if (listed === null || listed?.includes(null) === true) return false;
  const axes = getInts(node, 'axes', undefined) ?? (listed as number[] | undefined);
  const none = axes === undefined || axes.length === 0;
  if (none && getInt(node, 'noop_with_empty_axes', 0) === 1) return samePerAxis(graph, input, output);
  const reduced = new Set(none ? input.map((_, axis) => axis) : axes.map((axis) => wrap(axis, input.length)));
  const keep = getInt(node, 'keepdims', 1) === 1;
  const float = [DataType.FLOAT, DataType.FLOAT16].includes((graph.dataType(node.inputs[0]!) ?? 0) as 1 | 10);
  let at = 0;
  const summed: Atom[] = [];
  input.forEach((atom, axis) => {
    if (!reduced.has(axis)) {
      const other = output[at++];
      if (other !== undefined) graph.atoms.unite(atom, other);
      return;
    }
    if (keep) at++;
    if (additive.has(node.opType) && float) {
      graph.sink(node, 0, axis);
      summed.push(atom);
    } else {
      graph.atoms.block(atom, 'reduced axis');
    }
  });
  if (node.opType === 'ReduceMean') {
    for (const atom of summed) graph.mark(atom, 'normalized');
    graph.mends.set(node, meanOverOldWidth(summed, graph.dataType(node.inputs[0]!)!));
  }
  return true;
};

/** A mean over fewer values, times their share: the removed ones count as zeros. */
function meanOverOldWidth(axes: readonly Atom[], dataType: number): Mend {
  return (node, context) => {
    if (!axes.some(context.changed)) return node;
    const share = axes.reduce((product, axis) => (product * context.size(axis)) / axis.size, 1);
    const output = node.outputs[0]!;
    const mean = context.fresh(`${output}_kept`);
    const factor = context.constant(`${output}_share`, (name) => scalar(name, dataType, share));
    return [{ ...node, outputs: [mean] }, makeNode('Mul', [mean, factor], [output], {}, { name: `${mean}_share` })];
  };
}

function scalar(name: string, dataType: number, value: number): Tensor {
  const values = Float32Array.of(value);
  const array = dataType === DataType.FLOAT16 ? float32ToFloat16Bits(values) : values;
  const bytes = new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
  return { name, dataType, dims: [], data: computedData(bytes.byteLength, () => bytes.slice()) };
}

const reductions = 'Sum Mean L1 L2 SumSquare Max Min Prod LogSum LogSumExp'.split(' ');

/** Norms, softmax, pooling and reductions: operators that look along an axis. */
export const normRules: Readonly<Record<string, AxisRule>> = {
  BatchNormalization: channelNorm,
  InstanceNormalization: channelNorm,
  GroupNormalization: groupNorm,
  Softmax: softmax,
  LogSoftmax: softmax,
  Hardmax: softmax,
  LpNormalization: lpNorm,
  LRN: passExcept(() => [1], unit),
  MeanVarianceNormalization: passExcept((_, node) => getInts(node, 'axes', [0, 2, 3]), unit),
  CumSum: passExcept((graph, node) => {
    const [axis = null] = graph.elements(node.inputs[1]) ?? [];
    return axis === null ? null : [axis];
  }, 'running sum'),
  Trilu: passExcept(() => [-2, -1], 'triangle'),
  LayerNormalization: layerNorm(1),
  SimplifiedLayerNormalization: rootMeanSquareNorm(1, 1e-5),
  RMSNormalization: rootMeanSquareNorm(1, 1e-5),
  'com.microsoft:SkipLayerNormalization': withSkip(layerNorm(2)),
  'com.microsoft:SkipSimplifiedLayerNormalization': withSkip(rootMeanSquareNorm(2, 1e-12)),
  ...Object.fromEntries(
    ['MaxPool', 'AveragePool', 'LpPool', 'GlobalAveragePool', 'GlobalMaxPool', 'GlobalLpPool'].map((name) => [
      name,
      pool,
    ]),
  ),
  ...Object.fromEntries(reductions.map((name) => [`Reduce${name}`, reduce])),
};
