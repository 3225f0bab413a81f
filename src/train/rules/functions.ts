import { getFloat } from '../../onnx/attribute.js';
import type { GradientRule, GradientRules } from '../differentiate.js';
import type { GraphBuilder } from '../graph-builder.js';

/** Derivative of a function of one number, from `x` and `y = f(x)`. */
type Derivative = (f: Terms, x: string, y: string) => string;

/** What derivatives are written with. */
class Terms {
  constructor(
    readonly builder: GraphBuilder,
    readonly like: string,
    readonly attribute: (name: string, fallback: number) => number,
  ) {}
  of = (opType: string, x: string): string => this.builder.emit(opType, [x]);
  number = (value: number): string => this.builder.scalar(value, this.like);
  square = (x: string): string => this.builder.mul(x, x);
  /** `a + x` for a number. */
  plus = (a: number, x: string): string => this.builder.add(this.number(a), x);
  /** `a − x` for a number. */
  minus = (a: number, x: string): string => this.builder.sub(this.number(a), x);
  inverse = (x: string): string => this.of('Reciprocal', x);
  /** One value where `x` is above a number, another where it is not. */
  whereAbove = (x: string, bound: number, above: string, below: string): string =>
    this.builder.emit('Where', [this.builder.emit('Greater', [x, this.number(bound)]), above, below]);
}

const rule =
  (derivative: Derivative): GradientRule =>
  (context) => {
    const { builder, node } = context;
    const x = context.input(0);
    const terms = new Terms(builder, x, (name, fallback) => getFloat(node, name, fallback));
    context.contribute(0, builder.mul(context.gradient, derivative(terms, x, context.output(0))));
  };

const selu: Derivative = (f, x, y) => {
  const [alpha, gamma] = [f.attribute('alpha', 1.6732632423543772), f.attribute('gamma', 1.0507009873554805)];
  // For x ≤ 0: y = γ(αeˣ − α).
  return f.whereAbove(x, 0, f.number(gamma), f.plus(gamma * alpha, y));
};

const celu: Derivative = (f, x) =>
  f.whereAbove(x, 0, f.number(1), f.of('Exp', f.builder.scale(x, 1 / f.attribute('alpha', 1), x)));

/** y = x·t with t = tanh(softplus x). */
const mish: Derivative = (f, x) => {
  const t = f.of('Tanh', f.of('Softplus', x));
  const inner = f.builder.mul(f.builder.mul(x, f.minus(1, f.square(t))), f.of('Sigmoid', x));
  return f.builder.add(t, inner);
};

/** Functions of one number that models seldom use. */
export const functionGradients: GradientRules = {
  Softsign: rule((f, x) => f.inverse(f.square(f.plus(1, f.of('Abs', x))))),
  Selu: rule(selu),
  Celu: rule(celu),
  ThresholdedRelu: rule((f, x) => f.whereAbove(x, f.attribute('alpha', 1), f.number(1), f.number(0))),
  Mish: rule(mish),
  Tan: rule((f, _x, y) => f.plus(1, f.square(y))),
  Asin: rule((f, x) => f.inverse(f.of('Sqrt', f.minus(1, f.square(x))))),
  Acos: rule((f, x) => f.of('Neg', f.inverse(f.of('Sqrt', f.minus(1, f.square(x)))))),
  Atan: rule((f, x) => f.inverse(f.plus(1, f.square(x)))),
  Sinh: rule((f, x) => f.of('Cosh', x)),
  Cosh: rule((f, x) => f.of('Sinh', x)),
  Asinh: rule((f, x) => f.inverse(f.of('Sqrt', f.plus(1, f.square(x))))),
  Acosh: rule((f, x) => f.inverse(f.of('Sqrt', f.plus(-1, f.square(x))))),
  Atanh: rule((f, x) => f.inverse(f.minus(1, f.square(x)))),
};
