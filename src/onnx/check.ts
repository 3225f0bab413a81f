import { SnugError } from '../contract/errors.js';
import { malformed } from './failures.js';
import { bodiesOf, nodeLabel, topologicalOrder } from './graph.js';
import { defaultLimits } from './limits.js';
import type { Graph, Model, Node } from './model.js';
import { isKnownOperator, maxIrVersion, maxOpset } from './operators.js';
import { parseFunction } from './parse-model.js';

/** A node whose operator onnxruntime does not know. */
export interface UnknownOperator {
  /** Domain-qualified when not ai.onnx. */
  operator: string;
  domain: string;
  opType: string;
  /** Label of the first such node. */
  node: string;
  /** How many nodes use it. */
  count: number;
}

/** Operator as shown: `Conv`, `com.microsoft.MatMulNBits`. */
export function operatorName(node: Pick<Node, 'domain' | 'opType'>): string {
  return node.domain === '' ? node.opType : `${node.domain}.${node.opType}`;
}

/** Values visible in a graph: its own and those of the graphs around it. */
interface Scope {
  names: Set<string>;
  outer: Scope | null;
}

function isVisible(scope: Scope | null, name: string): boolean {
  for (let at = scope; at; at = at.outer) if (at.names.has(name)) return true;
  return false;
}

function define(scope: Scope, name: string, where: string): void {
  if (isVisible(scope, name)) throw malformed(`the value "${name}" is made twice (${where}).`, { value: name });
  scope.names.add(name);
}

function checkGraph(graph: Graph, outer: Scope | null): void {
  const initializers = new Set([...graph.initializers.keys(), ...graph.sparseInitializers.map(({ name }) => name)]);
  const scope: Scope = { names: new Set(initializers), outer };
  for (const input of graph.inputs) {
    // Up to IR version 3 an initializer is an input too.
    if (!initializers.has(input.name)) define(scope, input.name, 'as an input');
  }
  // All outputs are known before inputs are looked up, so that a wrong order is not taken for a wrong name.
  for (const node of graph.nodes) {
    for (const output of node.outputs) {
      if (output !== '') define(scope, output, `by ${node.opType} "${nodeLabel(node)}"`);
    }
  }
  for (const node of graph.nodes) {
    for (const name of node.inputs) {
      if (name === '' || isVisible(scope, name)) continue;
      throw malformed(`${node.opType} "${nodeLabel(node)}" uses the value "${name}", which nothing makes.`, {
        node: nodeLabel(node),
        value: name,
      });
    }
    for (const body of bodiesOf(node)) checkGraph(body, scope);
  }
  for (const output of graph.outputs) {
    if (!isVisible(scope, output.name)) {
      throw malformed(`nothing makes the output "${output.name}".`, { value: output.name });
    }
  }
  topologicalOrder(graph);
}

/**
 * Rules onnxruntime would trip over with less to say: every value is made once and by somebody, no cycles,
 * versions it can load.
 * @throws SnugError E_MALFORMED, E_OPSET_TOO_NEW.
 */
export function checkModel(model: Model): void {
  for (const [domain, version] of model.opsets) {
    const limit = maxOpset.get(domain);
    if (limit === undefined || version <= limit) continue;
    throw new SnugError(
      'E_OPSET_TOO_NEW',
      `The model uses ${domain || 'ai.onnx'} opset ${version}; up to ${limit} is supported.`,
      {
        action: `Export the model with opset ${limit} or lower.`,
        params: { domain: domain || 'ai.onnx', opset: version, limit },
      },
    );
  }
  if (model.irVersion > maxIrVersion) {
    throw new SnugError(
      'E_OPSET_TOO_NEW',
      `The model has ONNX IR version ${model.irVersion}; up to ${maxIrVersion} is supported.`,
      {
        action: 'Export the model with an older version of ONNX.',
        params: { irVersion: model.irVersion, limit: maxIrVersion },
      },
    );
  }
  if (model.graph.outputs.length === 0) throw malformed('the graph has no outputs.');
  checkGraph(model.graph, null);
}

/** Calls `visit` for every node: main graph, bodies and local functions (with their own opsets). */
export function visitAllNodes(model: Model, visit: (node: Node, opsets: ReadonlyMap<string, number>) => void): void {
  const visitNodes = (nodes: readonly Node[], opsets: ReadonlyMap<string, number>): void => {
    for (const node of nodes) {
      visit(node, opsets);
      for (const body of bodiesOf(node)) visitNodes(body.nodes, opsets);
    }
  };
  visitNodes(model.graph.nodes, model.opsets);
  for (const local of model.functions) {
    const { nodes, opsets } = parseFunction(local.raw, defaultLimits);
    visitNodes(nodes, opsets);
  }
}

/** Operators that neither onnxruntime nor a local function of the model defines, in order of first use. */
export function unknownOperators(model: Model): UnknownOperator[] {
  const local = new Set(model.functions.map(({ domain, name }) => `${domain} ${name}`));
  const found = new Map<string, UnknownOperator>();
  visitAllNodes(model, (node, opsets) => {
    const { domain, opType } = node;
    if (local.has(`${domain} ${opType}`)) return;
    // Domains of the runtime itself need no import; for ai.onnx a missing one is the runtime's to refuse.
    const opset = opsets.get(domain) ?? (domain === '' ? (maxOpset.get('') as number) : 1);
    if (isKnownOperator(domain, opType, opset)) return;
    const operator = operatorName(node);
    const known = found.get(operator);
    if (known) known.count++;
    else found.set(operator, { operator, domain, opType, node: nodeLabel(node), count: 1 });
  });
  return [...found.values()];
}
