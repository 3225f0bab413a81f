import type { Node } from '../onnx/model.js';
import { attentionRules } from './attention-rules.js';
import type { Atom } from './axis-atoms.js';
import { samePerAxis, type AxisGraph, type AxisRule } from './axis-graph.js';
import { contractionRules } from './contraction-rules.js';
import { layoutRules } from './layout-rules.js';
import { normRules } from './norm-rules.js';
import { recurrentRules } from './recurrent-rules.js';
import { regroupRules } from './regroup-rules.js';

const unary = `Relu LeakyRelu Elu Selu Celu Sigmoid HardSigmoid HardSwish Tanh Gelu Mish Softplus Softsign Swish
  ThresholdedRelu Shrink Erf Exp Log Sqrt Reciprocal Neg Abs Sin Cos Tan Asin Acos Atan Sinh Cosh Asinh Acosh Atanh Floor
  Ceil Round Sign Not IsNaN IsInf Identity Cast CastLike Clip Dropout com.microsoft:QuickGelu
  com.microsoft:Gelu`;
const broadcasting = `Add Sub Mul Div Pow Min Max Mod PRelu Where Sum Mean Equal Greater GreaterOrEqual Less LessOrEqual
  And Or Xor com.microsoft:BiasGelu com.microsoft:FastGelu`;

const applyUnary: AxisRule = (graph, node) => {
  const input = graph.axes(node.inputs[0]);
  if (input === null) return false;
  return node.outputs.every((name) => name === '' || samePerAxis(graph, input, graph.axes(name)));
};

const applyBroadcast: AxisRule = (graph, node) => {
  const output = graph.axes(node.outputs[0]);
  const inputs = node.inputs.filter((name) => name !== '').map((name) => graph.axes(name));
  if (output === null || inputs.includes(null) || node.attributes.has('axis')) return false;
  for (const input of inputs as Atom[][]) {
    input.forEach((atom, axis) => {
      const other = output[axis + output.length - input.length];
      if (other !== undefined && atom.size === other.size) graph.atoms.unite(atom, other);
      else if (atom.size !== 1) graph.atoms.block(atom, 'sizes that do not match');
    });
  }
  return true;
};

const named = (names: string, rule: AxisRule): [string, AxisRule][] =>
  names.split(/\s+/).map((name): [string, AxisRule] => [name, rule]);

const rules: ReadonlyMap<string, AxisRule> = new Map([
  ...named(unary, applyUnary),
  ...named(broadcasting, applyBroadcast),
  ...[normRules, contractionRules, attentionRules, recurrentRules, layoutRules, regroupRules].flatMap((table) =>
    Object.entries(table),
  ),
  ...named('Constant', () => true),
]);

/** Applies one node's equalities and prohibitions. Operators without a rule block every axis they touch. */
export function applyNode(graph: AxisGraph, node: Node): void {
  for (const name of graph.captured(node)) graph.blockValue(name, 'used inside a subgraph');
  const standard = node.domain === '' || node.domain === 'ai.onnx';
  const rule = rules.get(standard ? node.opType : `${node.domain}:${node.opType}`);
  if (rule === undefined || !rule(graph, node)) graph.blockNode(node, `operator ${node.opType}`);
}
