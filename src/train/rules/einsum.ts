import { getString, stringAttribute } from '../../onnx/attribute.js';
import type { GradientContext, GradientRule, GradientRules } from '../differentiate.js';
import { noRule } from '../differentiate.js';

/** Letters of the operands and the result, with `...` written out in letters that the equation does not use. */
function lettersOf(context: GradientContext): { operands: string[]; result: string } {
  const { builder, node } = context;
  const equation = getString(node, 'equation', '').replaceAll(' ', '');
  const [left = '', right] = equation.split('->');
  const terms = left.split(',');
  const free = [...'ABCDEFGHIJKLMNOPQRSTUVWXYZ'].filter((letter) => !equation.includes(letter));
  const axes = terms.map((term, index) =>
    term.includes('...') ? builder.rank(context.input(index)) - (term.length - 3) : 0,
  );
  const most = Math.max(...axes);
  const spelled = (term: string, count: number): string => term.replace('...', free.slice(most - count, most).join(''));
  const operands = terms.map((term, index) => spelled(term, axes[index] ?? 0));
  if (right !== undefined) return { operands, result: spelled(right, most) };
  // Without an arrow: what `...` stands for, then letters that occur once, in order (ONNX Einsum).
  const all = terms.join('').replaceAll('.', '');
  const once = [...all].filter((letter) => all.indexOf(letter) === all.lastIndexOf(letter)).sort();
  return { operands, result: free.slice(0, most).join('') + once.join('') };
}

/**
 * The gradient of an operand is the Einsum of the result's gradient with the other operands, to the operand's
 * letters; letters that only this operand has were summed, so that the gradient is the same along them.
 */
const einsum: GradientRule = (context) => {
  const { builder, node, gradient } = context;
  const { operands, result } = lettersOf(context);
  if (operands.some((letters) => new Set(letters).size !== letters.length)) {
    throw noRule(node, 'it takes a diagonal');
  }
  operands.forEach((letters, index) => {
    if (!context.needs(index)) return;
    const others = operands.filter((_, other) => other !== index);
    const known = new Set([...result, ...others.join('')]);
    const kept = [...letters].filter((letter) => known.has(letter));
    const equation = `${[result, ...others].join(',')}->${kept.join('')}`;
    const values = [gradient, ...node.inputs.filter((_, other) => other !== index)];
    const sum = builder.emit('Einsum', values, { equation: stringAttribute(equation) });
    const operand = context.input(index);
    const missing = [...letters].flatMap((letter, axis) => (known.has(letter) ? [] : [axis]));
    const whole =
      missing.length === 0
        ? sum
        : builder.emit('Expand', [builder.unsqueeze(sum, missing), builder.shapeVector(operand)]);
    context.contribute(index, builder.sumToShape(whole, spread(context, letters, operands, index), operand));
  });
};

/** Shape of an operand with the sizes that its letters have elsewhere, where it has 1 itself. */
function spread(
  { builder, node }: GradientContext,
  letters: string,
  operands: readonly string[],
  index: number,
): { sizes: number[]; open: boolean[] } {
  const own = builder.extent(node.inputs[index] ?? '');
  const largest = [...letters].map((letter, axis) => {
    let best = { size: own.sizes[axis] ?? 1, open: own.open[axis] ?? false };
    operands.forEach((other, at) => {
      const place = other.indexOf(letter);
      if (place < 0) return;
      const extent = builder.extent(node.inputs[at] ?? '');
      const [size, open] = [extent.sizes[place] ?? 1, extent.open[place] ?? false];
      if (best.size === 1 && !best.open) best = { size, open };
    });
    return best;
  });
  return { sizes: largest.map(({ size }) => size), open: largest.map(({ open }) => open) };
}

/** Sums of products by letters. */
export const einsumGradients: GradientRules = { Einsum: einsum };
