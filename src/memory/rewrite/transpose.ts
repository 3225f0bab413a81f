import { DataType, type Node } from '../../onnx/model.js';
import { getInt, getInts, intAttribute, intsAttribute } from '../../onnx/attribute.js';
import { is, type GraphEditor } from './editor.js';

/** Permutation that remains when the given (output) axes are squeezed away. */
function squeezed(order: readonly number[], axes: readonly number[]): number[] {
  const gone = new Set(axes.map((axis) => order[axis] ?? axis));
  const kept = order.filter((_, axis) => !axes.includes(axis));
  return kept.map((axis) => axis - [...gone].filter((other) => other < axis).length);
}

function constantAxes(editor: GraphEditor, value: string | undefined, rank: number): number[] | undefined {
  return editor.numbers(value)?.map((axis) => (axis < 0 ? axis + rank : axis));
}

/** Cuts before it transposes: the slice moves to the untransposed side, its result is transposed. */
function pushThroughSlice(editor: GraphEditor, transpose: Node, slice: Node, order: readonly number[]): void {
  const axes = constantAxes(editor, slice.inputs[3], order.length);
  const [output = ''] = slice.outputs;
  if (!axes) return;
  const moved = axes.map((axis) => order[axis] ?? axis);
  const sizes = editor.dims(output) ?? [];
  const cut = `${slice.name}/untransposed`;
  const before = order.map((_, axis) => sizes[order.indexOf(axis)] ?? null);
  editor.describe(cut, editor.dataType(output), before);
  const axesInput = editor.integers(`${slice.name}/axes`, moved);
  const inputs = slice.inputs.map((input, index) =>
    index === 0 ? (transpose.inputs[0] ?? '') : index === 3 ? axesInput : input,
  );
  editor.update(slice, { inputs, outputs: [cut] });
  const pushed = editor.add({ ...transpose, name: `${output}/transposed`, inputs: [cut], outputs: [output] });
  mergeThroughSqueeze(editor, pushed, order);
}

/** Picks one index before it transposes: the axis goes, and what order is left is that of the result. */
function pushThroughGather(editor: GraphEditor, transpose: Node, gather: Node, order: readonly number[]): void {
  const axis = pickedAxis(editor, gather, order.length) ?? 0;
  const [output = ''] = gather.outputs;
  const left = editor.dims(gather.inputs[1])?.length === 0 ? squeezed(order, [axis]) : [...order];
  const sizes = editor.dims(output) ?? [];
  const cut = `${gather.name}/untransposed`;
  const before = left.map((_, at) => sizes[left.indexOf(at)] ?? null);
  editor.describe(cut, editor.dataType(output), before);
  const attributes = new Map([...gather.attributes, ['axis', intAttribute(order[axis] ?? axis)] as const]);
  editor.update(gather, { inputs: [transpose.inputs[0] ?? '', gather.inputs[1] ?? ''], outputs: [cut], attributes });
  const next = editor.onlyConsumer(output);
  const after = is(next, 'Transpose') ? getInts(next, 'perm', undefined) : undefined;
  if (next && after) {
    const perm = after.map((at) => left[at] ?? at);
    editor.update(next, { inputs: [cut], attributes: new Map([['perm', intsAttribute(perm)]]) });
    return;
  }
  const attribute = new Map([['perm', intsAttribute(left)]]);
  editor.add({ ...transpose, name: `${output}/transposed`, inputs: [cut], outputs: [output], attributes: attribute });
}

/** The axis from which a Gather picks one constant index; null when it gathers anything else. */
function pickedAxis(editor: GraphEditor, node: Node, rank: number): number | null {
  if (!is(node, 'Gather') || editor.numbers(node.inputs[1])?.length !== 1) return null;
  const axis = getInt(node, 'axis', 0);
  return axis < 0 ? axis + rank : axis;
}

/** Transpose, Squeeze, Transpose: the first two swap and the two transposes become one. */
function mergeThroughSqueeze(editor: GraphEditor, transpose: Node, order: readonly number[]): void {
  const squeeze = editor.onlyConsumer(transpose.outputs[0]);
  const last = is(squeeze, 'Squeeze') ? editor.onlyConsumer(squeeze.outputs[0]) : undefined;
  const axes = squeeze && constantAxes(editor, squeeze.inputs[1], order.length);
  const after = is(last, 'Transpose') ? getInts(last, 'perm', undefined) : undefined;
  if (!squeeze || !last || !axes || !after) return;
  const middle = squeezed(order, axes);
  const sizes = editor.dims(squeeze.outputs[0]) ?? [];
  const value = `${squeeze.name}/untransposed`;
  editor.describe(
    value,
    editor.dataType(squeeze.outputs[0]),
    middle.map((_, axis) => sizes[middle.indexOf(axis)] ?? null),
  );
  editor.remove(transpose);
  const axesInput = editor.integers(
    `${squeeze.name}/axes`,
    axes.map((axis) => order[axis] ?? axis),
  );
  editor.update(squeeze, { inputs: [transpose.inputs[0] ?? '', axesInput], outputs: [value] });
  editor.update(last, {
    inputs: [value],
    attributes: new Map([['perm', intsAttribute(after.map((axis) => middle[axis] ?? axis))]]),
  });
}

/**
 * The part of the runtime's transpose optimizer that exporters' packed attention projections trigger: one
 * transpose cut into slices, or picked apart, becomes pieces that are transposed each.
 */
export function pushTransposes(editor: GraphEditor): void {
  for (const node of editor.ordered()) {
    const order = is(node, 'Transpose') ? getInts(node, 'perm', undefined) : undefined;
    const [output] = node.outputs;
    const users = editor.consumers(output);
    if (!order || output === undefined || editor.outputs.has(output) || users.length === 0) continue;
    const cuts = (user: Node) => is(user, 'Slice') && constantAxes(editor, user.inputs[3], order.length) !== undefined;
    const picks = (user: Node) => user.inputs[0] === output && pickedAxis(editor, user, order.length) !== null;
    if (!users.every((user) => cuts(user) || picks(user))) continue;
    for (const user of editor.ordered().filter((other) => users.includes(other))) {
      if (is(user, 'Slice')) pushThroughSlice(editor, node, user, order);
      else pushThroughGather(editor, node, user, order);
    }
    editor.remove(node);
  }
}

/** A transpose of a transposed value that undoes it: both go where nothing else reads between them. */
export function cancelTransposes(editor: GraphEditor): void {
  for (const node of editor.ordered()) {
    const before = is(node, 'Transpose') ? editor.producer(node.inputs[0]) : undefined;
    const first = is(before, 'Transpose') ? getInts(before, 'perm', undefined) : undefined;
    const [output = ''] = node.outputs;
    if (!before || !first || editor.outputs.has(output) || editor.consumers(output).length === 0) continue;
    const second = getInts(node, 'perm', [...first.keys()].reverse());
    if (second.some((axis, at) => first[axis] !== at)) continue;
    const [middle = ''] = before.outputs;
    editor.remove(node);
    editor.redirect(output, before.inputs[0] ?? '');
    if (editor.consumers(middle).length === 0 && !editor.outputs.has(middle)) editor.remove(before);
  }
}

/** Operators the runtime's transpose optimizer knows how to swap with a Transpose before them. */
const movable: ReadonlySet<string> = new Set(
  (
    'Cast Exp Gelu Identity LeakyRelu Log Reciprocal Relu Sigmoid Sqrt Tanh Abs Not Ceil Floor Neg Erf HardSigmoid ' +
    'Round IsInf IsNaN Selu Shrink Sign Softplus Softsign ThresholdedRelu Celu HardSwish Sin Cos Tan Sinh Cosh Asin ' +
    'Acos Atan Asinh Acosh Atanh Add Max Min Mul Sub Div And Or Xor Mod PRelu BitShift Equal Greater Less ' +
    'GreaterOrEqual LessOrEqual Mean Sum Pow Where Clip CastLike Transpose Concat Split Shape Pad ReduceLogSum ' +
    'ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare ReduceL1 ReduceL2 ArgMin ' +
    'ArgMax Squeeze Unsqueeze Slice Tile Softmax Hardmax LogSoftmax QuantizeLinear DequantizeLinear Reshape'
  ).split(' '),
);

/**
 * The shape of a transposed value is read off the value before, and its sizes are put in order. The runtime only does
 * so where it could also swap all other users with the transpose: a product in half precision, which reads through a
 * cast, lets it; one in single precision does not.
 */
export function readShapesBeforeTransposes(editor: GraphEditor): void {
  for (const node of editor.ordered()) {
    const transpose = is(node, 'Shape') ? editor.producer(node.inputs[0]) : undefined;
    const order = is(transpose, 'Transpose') ? getInts(transpose, 'perm', undefined) : undefined;
    const [transposed = ''] = transpose?.outputs ?? [];
    if (!transpose || !order || editor.outputs.has(transposed) || node.attributes.size > 0) continue;
    if (!editor.consumers(transposed).every((user) => user.domain === '' && movable.has(user.opType))) continue;
    const [source = ''] = transpose.inputs;
    const [output = ''] = node.outputs;
    const sizes = `${output}/untransposed`;
    editor.describe(sizes, DataType.INT64, [order.length]);
    editor.update(node, { inputs: [source], outputs: [sizes] });
    editor.add({
      name: `${node.name}/Gather`,
      opType: 'Gather',
      domain: '',
      inputs: [sizes, editor.integers(`${output}/order`, order)],
      outputs: [output],
      attributes: new Map([['axis', intAttribute(0)]]),
    });
    if (editor.consumers(transposed).length === 0) editor.remove(transpose);
  }
}
