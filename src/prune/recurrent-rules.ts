import { getInt } from '../onnx/graph.js';
import type { AxisRule } from './axis-graph.js';
import { countAttribute } from './sizes.js';

/**
 * One hidden axis h behind every gate: W [directions, gates·h, input], R [directions, gates·h, h], B [directions,
 * 2·gates·h], peepholes [directions, 3·h], states [directions, batch, h] (onnx operator specification; layout 0).
 */
function recurrent(gates: number, states: number): AxisRule {
  return (graph, node) => {
    const [x, w, r] = [graph.axes(node.inputs[0]), graph.axes(node.inputs[1]), graph.axes(node.inputs[2])];
    const at = (index: number) => ((node.inputs[index] ?? '') === '' ? undefined : graph.axes(node.inputs[index]));
    const made = node.outputs.map((name) => (name === '' ? undefined : graph.axes(name)));
    if (x?.length !== 3 || w?.length !== 3 || r?.length !== 3 || getInt(node, 'layout', 0) !== 0) return false;
    const { atoms } = graph;
    const hidden = r[2]!;
    const perGate = (count: number) => atoms.product([atoms.fresh(count), hidden]);
    const [bias, state, cell, peepholes] = [
      at(3),
      at(5),
      states > 1 ? at(6) : undefined,
      states > 1 ? at(7) : undefined,
    ];
    if ([bias, state, cell, peepholes, ...made].includes(null)) return false;
    const stacked = [w[1]!, r[1]!];
    const gateCount = atoms.fresh(gates);
    atoms.block(gateCount, 'gates of a recurrent layer');
    for (const axis of stacked) atoms.unite(axis, gates === 1 ? hidden : atoms.product([gateCount, hidden]));
    if (bias) atoms.unite(bias[1]!, perGate(2 * gates));
    if (peepholes) atoms.unite(peepholes[1]!, perGate(3));
    for (const initial of [state, cell]) {
      if (!initial) continue;
      atoms.unite(initial[1]!, x[1]!);
      atoms.unite(initial[2]!, hidden);
    }
    for (const axes of made) {
      if (!axes) continue;
      atoms.unite(axes.at(-1)!, hidden);
      atoms.unite(axes.at(-2)!, x[1]!);
      if (axes.length === 4) atoms.unite(axes[0]!, x[0]!);
      atoms.block(axes.at(-3)!, 'directions of a recurrent layer');
    }
    for (const axis of [x[0]!, x[1]!, w[0]!, r[0]!, ...(bias ?? []).slice(0, 1), ...(peepholes ?? []).slice(0, 1)]) {
      atoms.block(axis, 'steps of a recurrent layer');
    }
    for (const initial of [state, cell]) if (initial) atoms.block(initial[0]!, 'directions of a recurrent layer');
    atoms.unite(x[2]!, w[2]!);
    graph.mark(hidden, 'recurrent');
    graph.mends.set(node, countAttribute('hidden_size', hidden));
    graph.use(node, [1, 0, 2], { input: w[2]!, output: hidden, inputAxis: 2, outputAxis: 1, grouped: true });
    graph.use(node, [2, 2, 2], { input: hidden, output: hidden, inputAxis: 2, outputAxis: 1, grouped: true });
    return true;
  };
}

export const recurrentRules: Readonly<Record<string, AxisRule>> = {
  LSTM: recurrent(4, 2),
  GRU: recurrent(3, 1),
  RNN: recurrent(1, 1),
};
