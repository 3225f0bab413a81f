import { getFloat, getInt, getString, intAttribute } from '../../onnx/attribute.js';
import { DataType, type Node } from '../../onnx/model.js';
import type { Decomposition, DecompositionContext, Decompositions } from '../decompose.js';
import { noRule } from '../differentiate.js';
import type { GraphBuilder } from '../graph-builder.js';

/** Longest sequence that is written out step by step: each step is about thirty nodes with its gradient. */
const mostSteps = 512;

/** What a layer holds between steps; the cell only for LSTM. Null before the first step of a layer without one. */
interface State {
  hidden: string | null;
  cell: string | null;
}

/** Weights of one direction, as a cell multiplies by them. */
interface Cell {
  builder: GraphBuilder;
  node: Node;
  hidden: number;
  /** `[gates · hidden, input]` */
  weight: string;
  /** Both biases where they can be added to the input's share, `[gates · hidden]`. */
  bias: string | null;
  /** `[gates · hidden, hidden]`; without the third gate for GRU. */
  recurrent: string;
  /** Recurrent weight and bias of GRU's third gate, which the reset gate works on. */
  fresh: { weight: string; bias: string | null } | null;
  activate: readonly ((x: string) => string)[];
}

/** One step: the input's share `[batch, gates · hidden]` and the state before to the state after. */
type Step = (cell: Cell, input: string, before: State) => State;

const split = (builder: GraphBuilder, x: string, sizes: readonly number[], axis: number): string[] =>
  builder.emitMany('Split', [x, builder.ints(sizes)], sizes.length, { axis: intAttribute(axis) });

const product = (builder: GraphBuilder, x: string, weight: string): string =>
  builder.emit('Gemm', [x, weight], { transB: intAttribute(1) });

/** The input's share plus what the state adds. */
const withState = ({ builder, recurrent }: Cell, input: string, hidden: string | null): string =>
  hidden === null ? input : builder.emit('Gemm', [hidden, recurrent, input], { transB: intAttribute(1) });

/** h = f(x + h·R) */
const rnnStep: Step = (cell, input, { hidden }) => ({
  hidden: cell.activate[0]?.(withState(cell, input, hidden)) ?? '',
  cell: null,
});

/** Gates input, output, forget, cell (ONNX LSTM): c = f∘c + i∘g(·), h = o∘h(c). */
const lstmStep: Step = (cell, input, before) => {
  const { builder, hidden, activate } = cell;
  const [gates, fresh] = split(builder, withState(cell, input, before.hidden), [3 * hidden, hidden], 1);
  const [i, o, f] = split(builder, activate[0]?.(gates ?? '') ?? '', [hidden, hidden, hidden], 1) as [
    string,
    string,
    string,
  ];
  const added = builder.mul(i, activate[1]?.(fresh ?? '') ?? '');
  const next = before.cell === null ? added : builder.add(builder.mul(f, before.cell), added);
  return { hidden: builder.mul(o, activate[2]?.(next) ?? ''), cell: next };
};

/** Gates update, reset, hidden (ONNX GRU): h = (1 − z)∘n + z∘h, the reset before or after the product. */
const gruStep: Step = (cell, input, { hidden: before }) => {
  const { builder, hidden, activate, fresh, node } = cell;
  const [gateInput, ownInput] = split(builder, input, [2 * hidden, hidden], 1) as [string, string];
  const gates = activate[0]?.(withState(cell, gateInput, before)) ?? '';
  const [z, r] = split(builder, gates, [hidden, hidden], 1) as [string, string];
  const resetsProduct = getInt(node, 'linear_before_reset', 0) !== 0;
  let own =
    before === null ? null : product(builder, resetsProduct ? before : builder.mul(r, before), fresh?.weight ?? '');
  if (fresh?.bias) own = own === null ? fresh.bias : builder.add(own, fresh.bias);
  if (own !== null && resetsProduct) own = builder.mul(r, own);
  const next = activate[1]?.(own === null ? ownInput : builder.add(ownInput, own)) ?? '';
  // n + z∘(h − n)
  const difference = before === null ? builder.emit('Neg', [next]) : builder.sub(before, next);
  return { hidden: builder.add(next, builder.mul(z, difference)), cell: null };
};

interface Kind {
  gates: number;
  step: Step;
  /** Default activations of one direction. */
  activations: readonly string[];
}

const kinds = {
  RNN: { gates: 1, step: rnnStep, activations: ['Tanh'] },
  GRU: { gates: 3, step: gruStep, activations: ['Sigmoid', 'Tanh'] },
  LSTM: { gates: 4, step: lstmStep, activations: ['Sigmoid', 'Tanh', 'Tanh'] },
} as const satisfies Record<string, Kind>;

const knownActivations = new Set(['Sigmoid', 'Tanh', 'Relu', 'Softplus']);

/** Activations of every direction, as functions. */
function activationsOf(
  { builder, node }: DecompositionContext,
  kind: Kind,
  directions: number,
): ((x: string) => string)[] {
  const attribute = node.attributes.get('activations');
  const text = new TextDecoder();
  const given = attribute?.type === 'strings' ? attribute.value.map((name) => text.decode(name)) : [];
  const names = given.length > 0 ? given : Array.from({ length: directions }, () => kind.activations).flat();
  return names.map((name) => {
    if (!knownActivations.has(name)) throw noRule(node, `the activation ${name} is not known`);
    return (x) => builder.emit(name, [x]);
  });
}

function refuseUnknownForms(context: DecompositionContext, steps: number): void {
  const { node, input } = context;
  if (getInt(node, 'layout', 0) !== 0) throw noRule(node, 'its batch comes before its steps (layout 1)');
  if (getFloat(node, 'clip', 0) > 0) throw noRule(node, 'it clips its gates');
  if (getInt(node, 'input_forget', 0) !== 0) throw noRule(node, 'its input and forget gates are one');
  if (node.opType === 'LSTM' && input(7) !== '') throw noRule(node, 'it has peepholes');
  if (steps > mostSteps) {
    throw noRule(node, `its sequence of ${steps} steps is longer than ${mostSteps}; train on shorter pieces`);
  }
}

/** Weights and biases of one direction; shared by all steps. */
function cellOf(context: DecompositionContext, kind: Kind, at: number, hidden: number): Cell {
  const { builder, node, input } = context;
  const directions = builder.fixedSize(input(1), 0);
  const own = (value: string): string => builder.emit('Gather', [value, builder.ints([at], [])]);
  const activations = activationsOf(context, kind, directions);
  const each = activations.length / directions;
  const rows = kind.gates * hidden;
  const cell = {
    builder,
    node,
    hidden,
    weight: own(input(1)),
    recurrent: own(input(2)),
    activate: activations.slice(at * each, (at + 1) * each),
  };
  const [forInput, forState] =
    input(3) === '' ? [null, null] : (split(builder, own(input(3)), [rows, rows], 0) as [string, string]);
  if (node.opType !== 'GRU') return { ...cell, bias: forInput && builder.add(forInput, forState), fresh: null };
  const parts = [2 * hidden, hidden];
  const [gateWeight, freshWeight] = split(builder, cell.recurrent, parts, 0) as [string, string];
  const result = { ...cell, recurrent: gateWeight, fresh: { weight: freshWeight, bias: null } };
  if (forInput === null) return { ...result, bias: null };
  const [gateBias, freshBias] = split(builder, forState, parts, 0) as [string, string];
  const zeros = builder.floats(new Array<number>(hidden).fill(0), [hidden], input(3));
  const bias = builder.add(forInput, builder.emit('Concat', [gateBias, zeros], { axis: intAttribute(0) }));
  return { ...result, bias, fresh: { weight: freshWeight, bias: freshBias } };
}

/** Keeps the state where a sequence has ended, and makes its output zero there. */
function untilEnd(
  { builder }: Cell,
  lengths: string,
  at: number,
  before: State,
  after: State,
  like: string,
): { state: State; output: string } {
  const reached = builder.emit('Less', [builder.ints([at], []), builder.cast(lengths, DataType.INT64)]);
  const running = builder.unsqueeze(reached, [1]);
  const zero = builder.scalar(0, like);
  const keep = (next: string | null, last: string | null): string | null =>
    next === null ? null : builder.emit('Where', [running, next, last ?? zero]);
  return {
    state: { hidden: keep(after.hidden, before.hidden), cell: keep(after.cell, before.cell) },
    output: builder.keepWhere(running, after.hidden ?? '', like),
  };
}

/** The layer written out, step by step and direction by direction. */
const unrolled =
  (kind: Kind): Decomposition =>
  (context) => {
    const { builder, node, input, isUsed } = context;
    const x = input(0);
    const steps = builder.fixedSize(x, 0);
    refuseUnknownForms(context, steps);
    const hidden = builder.fixedSize(input(2), 2);
    const lengths = isWhole(context, steps) ? null : input(4);
    const results = Array.from({ length: builder.fixedSize(input(1), 0) }, (_, at) => {
      const initial = (index: number): string | null =>
        input(index) === '' ? null : builder.emit('Gather', [input(index), builder.ints([at], [])]);
      const cell = cellOf(context, kind, at, hidden);
      const projected = builder.emit('MatMul', [x, builder.transpose(cell.weight, [1, 0])]);
      const all = cell.bias === null ? projected : builder.add(projected, cell.bias);
      const parts = split(builder, all, new Array<number>(steps).fill(1), 0);
      const reversed = getString(node, 'direction', 'forward') === 'reverse' || at === 1;
      const outputs = new Array<string>(steps).fill('');
      let state: State = { hidden: initial(5), cell: node.opType === 'LSTM' ? initial(6) : null };
      for (let i = 0; i < steps; i++) {
        const time = reversed ? steps - 1 - i : i;
        const before = state;
        state = kind.step(cell, builder.emit('Squeeze', [parts[time] ?? '', builder.ints([0])]), before);
        outputs[time] = state.hidden ?? '';
        if (lengths !== null) ({ state, output: outputs[time] } = untilEnd(cell, lengths, time, before, state, x));
      }
      return { outputs, state };
    });
    const stacked = (values: readonly (string | null)[], axes: readonly number[]): string =>
      builder.emit(
        'Concat',
        values.map((value) => builder.unsqueeze(value ?? '', axes)),
        { axis: intAttribute(0) },
      );
    // [steps, directions, batch, hidden]
    const sequence = (): string =>
      builder.emit(
        'Concat',
        results.map(({ outputs }) => stacked(outputs, [0, 1])),
        { axis: intAttribute(1) },
      );
    const last = (values: (string | null)[]): string => stacked(values, [0]);
    return [
      isUsed(0) ? sequence() : null,
      isUsed(1) ? last(results.map(({ state }) => state.hidden)) : null,
      isUsed(2) ? last(results.map(({ state }) => state.cell)) : null,
    ];
  };

/** Whether every sequence is as long as the input. */
function isWhole({ builder, input }: DecompositionContext, steps: number): boolean {
  return input(4) === '' || (builder.numbers(input(4))?.every((length) => length === steps) ?? false);
}

/** Recurrent layers, unrolled over a known number of steps. */
export const recurrentDecompositions: Decompositions = {
  RNN: unrolled(kinds.RNN),
  GRU: unrolled(kinds.GRU),
  LSTM: unrolled(kinds.LSTM),
};
