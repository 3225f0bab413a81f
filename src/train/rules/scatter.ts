import { getInt, getString, intAttribute, stringAttribute } from '../../onnx/attribute.js';
import type { Attribute } from '../../onnx/model.js';
import type { GradientContext, GradientRule, GradientRules } from '../differentiate.js';
import { noRule } from '../differentiate.js';

const adding = { reduction: stringAttribute('add') };

/** Adding needs the operators of opset 16. */
function requireAdding({ builder, node }: GradientContext): void {
  if (builder.opset < 16) throw noRule(node, 'adding at places needs opset 16');
}

const axisOf = ({ node }: GradientContext): ReturnType<typeof intAttribute> => intAttribute(getInt(node, 'axis', 0));

const gatherElements: GradientRule = (context) => {
  requireAdding(context);
  const { builder, gradient, input } = context;
  const parts = [builder.zerosLike(input(0)), input(1), gradient];
  context.contribute(0, builder.emit('ScatterElements', parts, { axis: axisOf(context), ...adding }));
};

const gatherND: GradientRule = (context) => {
  requireAdding(context);
  const { builder, node, gradient, input } = context;
  if (getInt(node, 'batch_dims', 0) !== 0) throw noRule(node, 'it has batch axes');
  context.contribute(0, builder.emit('ScatterND', [builder.zerosLike(input(0)), input(1), gradient], adding));
};

/** What was written over has no gradient; what was written has that of its place. */
function scattered(scatter: string, gather: string): GradientRule {
  return (context) => {
    const { builder, node, gradient, input } = context;
    const reduction = getString(node, 'reduction', 'none');
    if (reduction !== 'none' && reduction !== 'add') throw noRule(node, `its reduction is ${reduction}`);
    const attributes: Record<string, Attribute> = scatter === 'ScatterElements' ? { axis: axisOf(context) } : {};
    if (context.needs(0)) {
      const zeros = (): string => builder.emit(scatter, [gradient, input(1), builder.zerosLike(input(2))], attributes);
      context.contribute(0, reduction === 'add' ? gradient : zeros());
    }
    if (context.needs(2)) context.contribute(2, builder.emit(gather, [gradient, input(1)], attributes));
  };
}

const topK: GradientRule = (context) => {
  requireAdding(context);
  const { builder, node, gradient, input } = context;
  const places = node.outputs[1] ?? '';
  if (places === '') throw noRule(node, 'it does not tell its places');
  const axis = intAttribute(getInt(node, 'axis', -1));
  const parts = [builder.zerosLike(input(0)), places, gradient];
  context.contribute(0, builder.emit('ScatterElements', parts, { axis, ...adding }));
};

const trilu: GradientRule = (context) => {
  const { builder, node, gradient } = context;
  const upper = intAttribute(getInt(node, 'upper', 1));
  context.contribute(0, builder.emit('Trilu', [gradient, ...node.inputs.slice(1)], { upper }));
};

/** Operators that take from and put at places known while the model runs. */
export const scatterGradients: GradientRules = {
  GatherElements: gatherElements,
  GatherND: gatherND,
  ScatterElements: scattered('ScatterElements', 'GatherElements'),
  ScatterND: scattered('ScatterND', 'GatherND'),
  TopK: topK,
  Trilu: trilu,
};
