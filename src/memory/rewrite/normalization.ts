import { intAttribute } from '../../onnx/attribute.js';
import { is, type GraphEditor } from './editor.js';

const microsoft = 'com.microsoft';

/** Mean, deviation, square, mean, root, scale (and shift) become LayerNormalization. */
export function fuseLayerNorm(editor: GraphEditor): void {
  for (const mean of editor.ordered()) {
    if (!is(mean, 'ReduceMean')) continue;
    const source = mean.inputs[0] ?? '';
    const sub = editor.consumers(mean.outputs[0]).find((node) => is(node, 'Sub') && node.inputs[0] === source);
    if (!sub) continue;
    const pow = editor.consumers(sub.outputs[0]).find((node) => is(node, 'Pow', 'Mul') && node !== sub);
    const variance = editor.onlyConsumer(pow?.outputs[0]);
    const add = is(variance, 'ReduceMean') ? editor.onlyConsumer(variance.outputs[0]) : undefined;
    const root = is(add, 'Add') ? editor.onlyConsumer(add.outputs[0]) : undefined;
    const div = is(root, 'Sqrt') ? editor.onlyConsumer(root.outputs[0]) : undefined;
    const scale = is(div, 'Div') ? editor.onlyConsumer(div.outputs[0]) : undefined;
    if (!pow || !variance || !add || !root || !div || !is(scale, 'Mul')) continue;
    const weight = scale.inputs.find((input) => editor.isConstant(input));
    if (weight === undefined) continue;
    const shift = editor.onlyConsumer(scale.outputs[0]);
    const bias = is(shift, 'Add') ? shift.inputs.find((input) => editor.isConstant(input)) : undefined;
    const last = bias === undefined || !shift ? scale : shift;
    editor.remove(mean, sub, pow, variance, add, root, div, scale, last);
    const inputs = bias === undefined ? [source, weight] : [source, weight, bias];
    editor.add({
      ...last,
      opType: 'LayerNormalization',
      name: `${last.name}/LayerNormFusion/`,
      inputs,
      attributes: new Map(),
    });
  }
}

/** The value before a cast, which may stand between the parts of a norm in half precision. */
function uncast(editor: GraphEditor, value: string | undefined): string | undefined {
  const node = editor.producer(value);
  return is(node, 'Cast') ? node.inputs[0] : value;
}

/** Square, mean, root, scale become SimplifiedLayerNormalization (RMS norm). */
export function fuseRmsNorm(editor: GraphEditor): void {
  for (const pow of editor.ordered()) {
    if (!is(pow, 'Pow')) continue;
    // The runtime takes any exponent for 2; one that is cast in every run cannot be read here.
    const exponent = editor.numbers(pow.inputs[1])?.[0] ?? (is(editor.producer(pow.inputs[1]), 'Cast') ? 2 : 0);
    if (exponent !== 2) continue;
    const source = pow.inputs[0] ?? '';
    const mean = editor.onlyConsumer(pow.outputs[0]);
    const add = is(mean, 'ReduceMean') ? editor.onlyConsumer(mean.outputs[0]) : undefined;
    const root = is(add, 'Add') ? editor.onlyConsumer(add.outputs[0]) : undefined;
    const div = is(root, 'Sqrt') ? editor.onlyConsumer(root.outputs[0]) : undefined;
    const scale =
      is(div, 'Div') && uncast(editor, div.inputs[0]) === uncast(editor, source)
        ? editor.onlyConsumer(div.outputs[0])
        : undefined;
    const weight = is(scale, 'Mul') ? scale.inputs.find((input) => editor.isConstant(input)) : undefined;
    if (!scale || weight === undefined || editor.dims(weight)?.length !== 1) continue;
    editor.remove(pow, mean, add, root, div, scale);
    editor.add({
      ...scale,
      opType: 'SimplifiedLayerNormalization',
      name: `${scale.name}/SimplifiedLayerNormFusion/`,
      inputs: [source, weight],
      attributes: new Map([['axis', intAttribute(-1)]]),
    });
  }
}

/** Residual sum (and bias) before LayerNormalization, when nobody else needs the sum. */
export function fuseSkipLayerNorm(editor: GraphEditor): void {
  for (const norm of editor.ordered()) {
    if (!is(norm, 'LayerNormalization')) continue;
    const rank = editor.dims(norm.inputs[0])?.length;
    const add = editor.producer(norm.inputs[0]);
    if (rank !== 3 || !is(add, 'Add') || editor.onlyConsumer(add.outputs[0]) !== norm) continue;
    const [first, second] = add.inputs.map((value) => editor.dims(value));
    // A dimension nobody knows is not equal to another one.
    if (!first || first.includes(null) || first.join() !== second?.join()) continue;
    let [input = '', skip = ''] = add.inputs;
    let bias: string | null = null;
    const gone = [norm, add];
    for (const which of [0, 1] as const) {
      const inner = editor.producer(which === 0 ? input : skip);
      if (bias !== null || !is(inner, 'Add') || editor.onlyConsumer(inner.outputs[0]) !== add) continue;
      const at = inner.inputs.findIndex((value) => editor.isConstant(value) && editor.dims(value)?.length === 1);
      if (at < 0) continue;
      bias = inner.inputs[at] ?? null;
      gone.push(inner);
      if (which === 0) input = inner.inputs[1 - at] ?? '';
      else skip = inner.inputs[1 - at] ?? '';
    }
    editor.remove(...gone);
    const rest = bias === null ? norm.inputs.slice(1) : [norm.inputs[1] ?? '', norm.inputs[2] ?? '', bias];
    editor.add({
      ...norm,
      opType: 'SkipLayerNormalization',
      domain: microsoft,
      name: 'SkipLayerNormalization',
      inputs: [input, skip, ...rest],
    });
  }
}
