import type { AxisGraph, WeightUse } from './axis-graph.js';

/** Names exporters invent; they say nothing to a person. */
const invented = /^(val_|onnx::|node_|getitem|_|\d|(Conv|Gemm|MatMul|Constant|Identity|Transpose)_?\d*$)/;

/** What to call the layer of a weight on screen: the module path an exporter left in some name around it. */
export function layerName(graph: AxisGraph, use: WeightUse): string {
  const candidates = [stem(use.weight), ...biasNames(graph, use).map(stem), nodePath(use.node.name)];
  return candidates.find((name) => name !== '' && !invented.test(name)) ?? use.weight;
}

function biasNames(graph: AxisGraph, use: WeightUse): string[] {
  const own = use.node.inputs[2];
  const after = graph.consumers(use.node.outputs[0] ?? '');
  const added = after
    .filter((node) => node.opType === 'Add')
    .flatMap((node) => node.inputs.filter((name) => graph.constant(name) !== undefined));
  return [...(own === undefined ? [] : [own]), ...added];
}

function stem(name: string): string {
  return name
    .replace(/#\d+$/, '')
    .replace(/[._/](weight|bias|kernel|weight_bias|gamma|beta|w|b)$/i, '')
    .replace(/_(weight|bias)$/, '');
}

/** `/m/b.0/g/MatMul` → `m/b.0/g`. */
function nodePath(name: string): string {
  return name.replace(/^\//, '').replace(/\/[A-Z][A-Za-z]*(_\d+)?$/, '');
}
