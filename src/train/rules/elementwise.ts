import { getFloat, getInt, getString } from '../../onnx/attribute.js';
import { intAttribute } from '../../onnx/attribute.js';
import type { GradientContext, GradientRule, GradientRules } from '../differentiate.js';
import { DataType } from '../../onnx/model.js';
import { noRule } from '../differentiate.js';
import { floatTypes } from '../graph-builder.js';

/** Adds `gradient`, which has the shape of the output, to input `index`, summed over what broadcasting repeated. */
function contributeSummed(context: GradientContext, index: number, gradient: () => string): void {
  if (!context.needs(index)) return;
  const { builder } = context;
  context.contribute(index, builder.sumToShape(gradient(), builder.extent(context.output(0)), context.input(index)));
}

const add: GradientRule = (context) => {
  context.node.inputs.forEach((_, index) => contributeSummed(context, index, () => context.gradient));
};

const mean: GradientRule = (context) => {
  const { builder, gradient, node } = context;
  const share = builder.scale(gradient, 1 / node.inputs.length, gradient);
  node.inputs.forEach((_, index) => contributeSummed(context, index, () => share));
};

const sub: GradientRule = (context) => {
  const { builder, gradient } = context;
  contributeSummed(context, 0, () => gradient);
  contributeSummed(context, 1, () => builder.emit('Neg', [gradient]));
};

const mul: GradientRule = (context) => {
  const { builder, gradient } = context;
  contributeSummed(context, 0, () => builder.mul(gradient, context.input(1)));
  contributeSummed(context, 1, () => builder.mul(gradient, context.input(0)));
};

const div: GradientRule = (context) => {
  const { builder, gradient } = context;
  contributeSummed(context, 0, () => builder.div(gradient, context.input(1)));
  // d(a/b)/db = −(a/b)/b
  contributeSummed(context, 1, () =>
    builder.emit('Neg', [builder.div(builder.mul(gradient, context.output(0)), context.input(1))]),
  );
};

const pow: GradientRule = (context) => {
  const { builder, gradient } = context;
  const [x, exponent] = [context.input(0), context.input(1)];
  contributeSummed(context, 0, () => {
    const [only, ...more] = builder.numbers(exponent) ?? [];
    if (only === undefined || more.length > 0) {
      const p = builder.cast(exponent, builder.dataType(x));
      return builder.mul(gradient, builder.mul(p, builder.binary('Pow', x, builder.sub(p, builder.scalar(1, x)))));
    }
    if (only === 2) return builder.mul(gradient, builder.scale(x, 2, x));
    const lowered = builder.binary('Pow', x, builder.scalar(only - 1, x));
    return builder.mul(gradient, builder.scale(lowered, only, x));
  });
  contributeSummed(context, 1, () => builder.mul(gradient, builder.mul(context.output(0), builder.emit('Log', [x]))));
};

/** Gradient goes to the operands that equal the result, in equal shares. */
const extremum: GradientRule = (context) => {
  const { builder, gradient, node } = context;
  const y = context.output(0);
  const masks = node.inputs.map((input) => builder.cast(builder.emit('Equal', [input, y]), builder.dataType(y)));
  const count = masks.reduce((a, b) => builder.add(a, b));
  const share = builder.div(gradient, count);
  node.inputs.forEach((_, index) => contributeSummed(context, index, () => builder.mul(share, masks[index] ?? '')));
};

const where: GradientRule = (context) => {
  const { builder, gradient } = context;
  const [condition, like] = [context.input(0), context.output(0)];
  contributeSummed(context, 1, () => builder.keepWhere(condition, gradient, like));
  contributeSummed(context, 2, () => builder.emit('Where', [condition, builder.scalar(0, like), gradient]));
};

/** A rule of one operand: `derivative` times the output's gradient. */
function unary(derivative: (context: GradientContext, x: string, y: string) => string): GradientRule {
  return (context) => {
    const d = derivative(context, context.input(0), context.output(0));
    context.contribute(0, context.builder.mul(context.gradient, d));
  };
}

/** A rule of one operand that works on the output's gradient itself. */
function mapped(map: (context: GradientContext, x: string, y: string) => string): GradientRule {
  return (context) => context.contribute(0, map(context, context.input(0), context.output(0)));
}

const above = ({ builder }: GradientContext, x: string, bound: number): string =>
  builder.emit('Greater', [x, builder.scalar(bound, x)]);
const below = ({ builder }: GradientContext, x: string, bound: number): string =>
  builder.emit('Less', [x, builder.scalar(bound, x)]);

/** Keeps the gradient where x lies strictly between two numbers. */
function between(context: GradientContext, x: string, low: number, high: number, gradient: string): string {
  const inside = context.builder.emit('And', [above(context, x, low), below(context, x, high)]);
  return context.builder.keepWhere(inside, gradient, x);
}

const clip: GradientRule = (context) => {
  const { builder, gradient } = context;
  const x = context.input(0);
  let kept = gradient;
  // PyTorch passes the gradient at the bounds themselves, too.
  if (context.input(1) !== '') kept = builder.keepWhere(builder.emit('GreaterOrEqual', [x, context.input(1)]), kept, x);
  if (context.input(2) !== '') kept = builder.keepWhere(builder.emit('LessOrEqual', [x, context.input(2)]), kept, x);
  if (context.needs(1) || context.needs(2)) throw noRule(context.node, 'its bounds cannot be trained');
  context.contribute(0, kept);
};

const prelu: GradientRule = (context) => {
  const { builder, gradient } = context;
  const [x, slope] = [context.input(0), context.input(1)];
  const positive = above(context, x, 0);
  if (context.needs(0)) {
    context.contribute(0, builder.emit('Where', [positive, gradient, builder.mul(gradient, slope)]));
  }
  contributeSummed(context, 1, () => builder.emit('Where', [positive, builder.scalar(0, x), builder.mul(gradient, x)]));
};

const elu = unary(({ builder, node }, x, y) => {
  const alpha = getFloat(node, 'alpha', 1);
  // For x ≤ 0: y = α(eˣ − 1), so αeˣ = y + α.
  const low = builder.add(y, builder.scalar(alpha, x));
  return builder.emit('Where', [builder.emit('Greater', [x, builder.scalar(0, x)]), builder.scalar(1, x), low]);
});

const hardSwish = unary((context, x) => {
  const { builder } = context;
  const slope = builder.add(builder.scale(x, 1 / 3, x), builder.scalar(0.5, x));
  const ramp = builder.emit('Where', [above(context, x, 3), builder.scalar(1, x), slope]);
  return builder.emit('Where', [below(context, x, -3), builder.scalar(0, x), ramp]);
});

const sigmoidOf = ({ builder }: GradientContext, x: string): string => builder.emit('Sigmoid', [x]);

/** d/dx x·s(kx) = s + kx·s(1 − s) */
function swishDerivative(context: GradientContext, x: string, k: number): string {
  const { builder } = context;
  const kx = builder.scale(x, k, x);
  const s = sigmoidOf(context, kx);
  const inner = builder.add(builder.scalar(1, x), builder.mul(kx, builder.sub(builder.scalar(1, x), s)));
  return builder.mul(s, inner);
}

const gelu = unary((context, x) =>
  getString(context.node, 'approximate', 'none') === 'tanh'
    ? tanhGeluDerivative(context, x)
    : erfGeluDerivative(context, x),
);

/** Φ(x) + x·φ(x) */
function erfGeluDerivative({ builder }: GradientContext, x: string): string {
  const erf = builder.emit('Erf', [builder.scale(x, Math.SQRT1_2, x)]);
  const cdf = builder.scale(builder.add(erf, builder.scalar(1, x)), 0.5, x);
  const density = builder.emit('Exp', [builder.scale(builder.mul(x, x), -0.5, x)]);
  return builder.add(cdf, builder.scale(builder.mul(x, density), 1 / Math.sqrt(2 * Math.PI), x));
}

/** y = x/2·(1 + tanh u), u = √(2/π)(x + 0.044715x³) */
function tanhGeluDerivative({ builder }: GradientContext, x: string): string {
  const c = Math.sqrt(2 / Math.PI);
  const square = builder.mul(x, x);
  const one = builder.scalar(1, x);
  const u = builder.mul(builder.scale(x, c, x), builder.add(one, builder.scale(square, 0.044715, x)));
  const t = builder.emit('Tanh', [u]);
  const slope = builder.scale(builder.add(one, builder.scale(square, 3 * 0.044715, x)), c, x);
  const inner = builder.mul(builder.mul(x, builder.sub(one, builder.mul(t, t))), slope);
  return builder.scale(builder.add(builder.add(one, t), inner), 0.5, x);
}

const cast: GradientRule = (context) => {
  const type = context.builder.dataType(context.input(0));
  // Codes that stand for floating-point numbers have a gradient in floating point.
  if (!floatTypes.has(type)) context.contribute(0, context.builder.cast(context.gradient, DataType.FLOAT));
  else context.contribute(0, context.builder.cast(context.gradient, type));
};

const pass: GradientRule = (context) => context.contribute(0, context.gradient);

const dropout: GradientRule = (context) => {
  const training = context.input(2) === '' ? [0] : context.builder.numbers(context.input(2));
  if (training?.[0] !== 0) throw noRule(context.node, 'it drops values at random');
  context.contribute(0, context.gradient);
};

const cumSum: GradientRule = (context) => {
  const { builder, node, gradient } = context;
  const attributes = {
    exclusive: intAttribute(getInt(node, 'exclusive', 0)),
    reverse: intAttribute(1 - getInt(node, 'reverse', 0)),
  };
  context.contribute(0, builder.emit('CumSum', [gradient, context.input(1)], attributes));
};

/** Element-wise operators; "ONNX operator specifications" gives the functions, calculus the rest. */
export const elementwiseGradients: GradientRules = {
  Add: add,
  Sum: add,
  Mean: mean,
  Sub: sub,
  Mul: mul,
  Div: div,
  Pow: pow,
  Min: extremum,
  Max: extremum,
  Where: where,
  Clip: clip,
  PRelu: prelu,
  Neg: mapped(({ builder, gradient }) => builder.emit('Neg', [gradient])),
  Abs: unary(({ builder }, x) => builder.emit('Sign', [x])),
  Sqrt: mapped(({ builder, gradient }, _, y) => builder.div(builder.scale(gradient, 0.5, y), y)),
  Reciprocal: unary(({ builder }, _, y) => builder.emit('Neg', [builder.mul(y, y)])),
  Exp: unary((_context, _x, y) => y),
  Log: mapped(({ builder, gradient }, x) => builder.div(gradient, x)),
  Sin: unary(({ builder }, x) => builder.emit('Cos', [x])),
  Cos: unary(({ builder }, x) => builder.emit('Neg', [builder.emit('Sin', [x])])),
  Erf: unary(({ builder }, x) =>
    builder.scale(builder.emit('Exp', [builder.emit('Neg', [builder.mul(x, x)])]), 2 / Math.sqrt(Math.PI), x),
  ),
  Relu: mapped((context, _, y) => context.builder.keepWhere(above(context, y, 0), context.gradient, y)),
  LeakyRelu: mapped((context, x) => {
    const { builder, gradient, node } = context;
    const leaked = builder.scale(gradient, getFloat(node, 'alpha', 0.01), x);
    return builder.emit('Where', [above(context, x, 0), gradient, leaked]);
  }),
  Elu: elu,
  Softplus: unary((context, x) => sigmoidOf(context, x)),
  Sigmoid: unary(({ builder }, _, y) => builder.mul(y, builder.sub(builder.scalar(1, y), y))),
  Tanh: unary(({ builder }, _, y) => builder.sub(builder.scalar(1, y), builder.mul(y, y))),
  HardSigmoid: mapped((context, x) => {
    const [alpha, beta] = [getFloat(context.node, 'alpha', 0.2), getFloat(context.node, 'beta', 0.5)];
    const sloped = context.builder.scale(context.gradient, alpha, x);
    return between(context, x, -beta / alpha, (1 - beta) / alpha, sloped);
  }),
  HardSwish: hardSwish,
  Gelu: gelu,
  'com.microsoft:Gelu': unary((context, x) => erfGeluDerivative(context, x)),
  'com.microsoft:FastGelu': unary((context, x) => tanhGeluDerivative(context, x)),
  'com.microsoft:QuickGelu': unary((context, x) => swishDerivative(context, x, getFloat(context.node, 'alpha', 1.702))),
  Swish: unary((context, x) => swishDerivative(context, x, getFloat(context.node, 'alpha', 1))),
  Cast: cast,
  Identity: pass,
  Dropout: dropout,
  CumSum: cumSum,
};
