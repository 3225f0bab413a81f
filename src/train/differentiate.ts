import { SnugError } from '../contract/errors.js';
import { nodeLabel } from '../onnx/graph.js';
import type { Node } from '../onnx/model.js';
import { bodiesOf } from '../onnx/topology.js';
import { floatTypes, type GraphBuilder } from './graph-builder.js';
import { gradientRules } from './rules/index.js';

/** What a gradient rule sees of its node. */
export interface GradientContext {
  readonly builder: GraphBuilder;
  readonly node: Node;
  /** Name of input `index`; '' when it is left out. */
  input(index: number): string;
  output(index: number): string;
  /** Whether anything wants the gradient of input `index`. */
  needs(index: number): boolean;
  /** Gradient of the loss with respect to output 0, in that output's shape. */
  readonly gradient: string;
  /** Gradient with respect to output `index`; null when the loss does not depend on it. */
  gradientOf(index: number): string | null;
  /** Adds to the gradient of input `index`; `gradient` has that input's shape. */
  contribute(index: number, gradient: string): void;
}

export type GradientRule = (context: GradientContext) => void;
export type GradientRules = Readonly<Record<string, GradientRule>>;

/** Operators whose integers pass a gradient on, straight through the rounding (Bengio et al. 2013, section 3.1). */
const quantizing = new Set(['QuantizeLinear', 'DynamicQuantizeLinear', 'MatMulInteger', 'ConvInteger']);

/** Operators that pass on the gradient of such integers by moving it. */
const moving = new Set(['Identity', 'Reshape', 'Flatten', 'Squeeze', 'Unsqueeze', 'Transpose', 'Concat']);

/**
 * Appends the reverse-mode gradient of a scalar loss to a graph, as ordinary ONNX operators: every node between
 * the wanted values and the seeds is visited once, last node first, and contributions of several uses of a value
 * are added (Griewank and Walther, Evaluating Derivatives, chapter 3).
 *
 * @param seeds gradient of the loss by the value it is taken from, each in that value's shape
 * @param wanted values to differentiate by (graph inputs or initializers)
 * @returns the gradient's name by wanted value; values the loss does not depend on are left out
 * @throws SnugError E_NOT_SUPPORTED for an operator between them that has no rule
 */
export function appendGradients(
  builder: GraphBuilder,
  seeds: ReadonlyMap<string, string>,
  wanted: readonly string[],
): Map<string, string> {
  const nodes = [...builder.graph.nodes];
  const active = activeValues(builder, nodes, wanted);
  const parts = new Map<string, string[]>();
  const contribute = (value: string, gradient: string): void => {
    const list = parts.get(value);
    if (list) list.push(gradient);
    else parts.set(value, [gradient]);
  };
  for (const [value, gradient] of seeds) contribute(value, gradient);

  const total = (value: string): string | null => {
    const list = parts.get(value);
    if (!list) return null;
    const sum = list.reduce((a, b) => builder.add(a, b));
    parts.set(value, [sum]);
    return sum;
  };

  for (const node of nodes.reverse()) {
    if (!node.inputs.some((input) => active.has(input))) continue;
    const gradients = node.outputs.map((output) => (output === '' ? null : total(output)));
    if (gradients.every((gradient) => gradient === null)) continue;
    const rule = ruleFor(node);
    rule({
      builder,
      node,
      input: (index) => node.inputs[index] ?? '',
      output: (index) => node.outputs[index] ?? '',
      needs: (index) => active.has(node.inputs[index] ?? ''),
      get gradient() {
        const [first] = gradients;
        if (first) return first;
        throw noRule(node, 'only its first output can be followed');
      },
      gradientOf: (index) => gradients[index] ?? null,
      contribute: (index, gradient) => contribute(node.inputs[index] ?? '', gradient),
    });
  }

  const result = new Map<string, string>();
  for (const value of wanted) {
    const gradient = total(value);
    if (gradient !== null) result.set(value, gradient);
  }
  return result;
}

/** Values that depend on a wanted one in a way that can be differentiated. */
export function activeValues(builder: GraphBuilder, nodes: readonly Node[], wanted: readonly string[]): Set<string> {
  const active = new Set(wanted);
  for (const node of nodes) {
    if (!node.inputs.some((input) => active.has(input)) && !capturesActive(node, active)) continue;
    if (withoutGradient.has(node.opType) && node.domain === '') continue;
    const carriesCodes =
      quantizing.has(node.opType) ||
      (moving.has(node.opType) && !floatTypes.has(builder.dataType(node.inputs[0] ?? '')));
    // The range that codes were made for counts as given.
    const outputs = carriesCodes ? node.outputs.slice(0, 1) : node.outputs;
    for (const output of outputs) {
      if (output !== '' && (carriesCodes || floatTypes.has(builder.dataType(output)))) active.add(output);
    }
  }
  return active;
}

/** Operators whose output does not change with small changes of the input. */
const withoutGradient = new Set([
  'Shape',
  'Size',
  'ConstantOfShape',
  'Sign',
  'Floor',
  'Ceil',
  'Round',
  'ArgMax',
  'ArgMin',
]);

function capturesActive(node: Node, active: ReadonlySet<string>): boolean {
  return bodiesOf(node).some((body) => body.nodes.some((inner) => inner.inputs.some((name) => active.has(name))));
}

/** What a node's operator is called in the tables of rules. */
export const operatorKey = ({ domain, opType }: Node): string =>
  domain === '' || domain === 'ai.onnx' ? opType : `${domain}:${opType}`;

function ruleFor(node: Node): GradientRule {
  const rule = gradientRules[operatorKey(node)];
  if (!rule) {
    throw noRule(
      node,
      node.domain === 'com.microsoft.nchwc'
        ? 'the file was saved after it had been laid out for one processor; train the model it was made from'
        : 'there is no gradient rule for this operator',
    );
  }
  return rule;
}

/** The error of a node that stops gradients. */
export function noRule(node: Node, reason: string): SnugError {
  return new SnugError(
    'E_NOT_SUPPORTED',
    `Training cannot go through ${node.opType} (node ${nodeLabel(node)}): ${reason}.`,
    {
      action:
        'Train only weights behind this node (choose them with --trainable), so that everything before it is frozen.',
      params: { operator: node.opType, node: nodeLabel(node) },
    },
  );
}
