import { DataType, type Graph, type Node } from './model.js';
import { getInt, getInts } from './attribute.js';
import { equal } from './shape-expression.js';
import { joinValues, sameKnowledge } from './shape-join.js';
import {
  axisOf,
  constantData,
  dimFromData,
  fixed,
  hasOpenSize,
  open,
  ShapeGap,
  type InferredValue,
  type ShapeDim,
} from './shape-types.js';

/** What a body came to. */
export interface BodyResult {
  readonly outputs: readonly (InferredValue | null)[];
  /** Size of the body, to bound how often it is walked. */
  readonly nodes: number;
}

export type InferBody = (body: Graph, inputs: readonly (InferredValue | null)[]) => BodyResult;

/** Rounds until what a loop carries no longer changes; each round can only lose knowledge. */
const mostRounds = 16;
/** Nodes walked at most to follow a loop round by round. */
const mostUnrolled = 20_000;

function bodyOf(node: Node, name: string): Graph {
  const attribute = node.attributes.get(name);
  if (attribute?.type !== 'graph') throw new ShapeGap(`the ${node.opType} has no ${name}`);
  return attribute.value;
}

type Known = InferredValue | null;

/** The taken branch's sizes, with names and formulas only where both branches agree. */
function chosen(taken: InferredValue, other: Known): InferredValue {
  if (taken.sequence) return taken;
  const dims = taken.dims.map((dim, axis): ShapeDim => {
    const against = other?.dims.length === taken.dims.length ? other.dims[axis] : undefined;
    return {
      size: dim.size,
      symbol: against !== undefined && against.symbol === dim.symbol ? dim.symbol : null,
      expression: against !== undefined && equal(dim.expression, against.expression) ? dim.expression : null,
    };
  });
  return taken.data ? { dataType: taken.dataType, dims, data: taken.data } : { dataType: taken.dataType, dims };
}

function inferIf(node: Node, inputs: readonly Known[], infer: InferBody): Known[] {
  const otherwise = infer(bodyOf(node, 'else_branch'), []).outputs;
  const then = infer(bodyOf(node, 'then_branch'), []).outputs;
  const condition = inputs[0]?.data;
  const value = condition?.values[0] ?? NaN;
  return node.outputs.map((name, index) => {
    const [a = null, b = null] = [then[index], otherwise[index]];
    if (Number.isNaN(value)) return a && b ? joinValues(a, b, name) : null;
    const [taken, other] = value !== 0 ? [a, b] : [b, a];
    return taken && (condition?.constant === true ? taken : chosen(taken, other));
  });
}

/** The runtime's planner lets what a loop carries change its shape, so it knows none of its sizes. */
function carriedIn(value: Known): Known {
  if (value === null || value.sequence) return value;
  return { ...value, dims: value.dims.map((dim) => ({ ...dim, symbol: null })) };
}

const counter = (round?: number): InferredValue =>
  round === undefined
    ? { dataType: DataType.INT64, dims: [] }
    : { dataType: DataType.INT64, dims: [], data: constantData([round]) };

function truth(value: Known | undefined): boolean | null {
  const known = value?.data?.values[0] ?? NaN;
  return Number.isNaN(known) ? null : known !== 0;
}

interface LoopState {
  /** Condition, then what is carried. */
  readonly state: readonly Known[];
  /** One element of each scan output. */
  readonly scans: readonly Known[];
  readonly rounds: ShapeDim;
}

class LoopInference {
  private readonly body: Graph;
  private readonly initial: readonly Known[];
  private readonly most: ShapeDim | null;

  constructor(
    private readonly node: Node,
    inputs: readonly Known[],
    private readonly infer: InferBody,
  ) {
    this.body = bodyOf(node, 'body');
    const limit = inputs[0];
    this.most = (node.inputs[0] ?? '') === '' ? fixed(Infinity) : limit?.data ? dimFromData(limit.data, 0) : null;
    const condition: Known =
      (node.inputs[1] ?? '') === ''
        ? { dataType: DataType.BOOL, dims: [], data: constantData([1]) }
        : (inputs[1] ?? null);
    const carried = this.body.inputs.slice(2).map((_, index) => inputs[index + 2] ?? null);
    this.initial = [condition, ...carried].map(carriedIn);
  }

  outputs(): Known[] {
    const settled = this.settle();
    const isOpen =
      [...settled.state.slice(1), ...settled.scans].some((value) => value === null || hasOpenSize(value)) ||
      Number.isNaN(settled.rounds.size);
    const followed = isOpen ? this.unroll() : null;
    // The body is left as it is in every round, not in the last one that could be followed.
    if (isOpen && !followed) this.round(settled.state);
    const { state, scans, rounds } = followed ?? settled;
    const stacked = scans.map((scan) => scan && { dataType: scan.dataType, dims: [rounds, ...scan.dims] });
    return [...state.slice(1), ...stacked];
  }

  private round(state: readonly Known[], number?: number): { state: Known[]; scans: Known[] } {
    const { outputs } = this.infer(this.body, [counter(number), ...state]);
    return { state: outputs.slice(0, state.length).map(carriedIn), scans: outputs.slice(state.length) };
  }

  /** What holds in every round, whatever their number. */
  private settle(): LoopState {
    let state = [...this.initial];
    for (let round = 0; round < mostRounds; round += 1) {
      const result = this.round(state);
      const joined = state.map((value, index) => {
        const next = result.state[index] ?? null;
        return value && next ? joinValues(value, next, this.body.inputs[index + 1]?.name ?? '') : null;
      });
      if (joined.every((value, index) => sameKnowledge(value, state[index] ?? null))) {
        return { state, scans: result.scans, rounds: this.rounds(state[0]) };
      }
      state = joined;
    }
    throw new ShapeGap('what the loop carries never settles');
  }

  private rounds(condition: Known | undefined): ShapeDim {
    if (truth(condition) === true && this.most !== null && Number.isFinite(this.most.size)) return this.most;
    return open(`${this.node.outputs.at(-1) ?? this.node.name}.rounds`);
  }

  /** Round by round, as long as the condition is known; null when it is not, or the loop is too long. */
  private unroll(): LoopState | null {
    let state = [...this.initial];
    let scans: Known[] | null = null;
    const bound = Math.min(this.most?.size ?? NaN, mostUnrolled / Math.max(1, this.body.nodes.length));
    if (Number.isNaN(bound)) return null;
    for (let round = 0; ; round += 1) {
      const goesOn = truth(state[0]);
      if (goesOn === null) return null;
      if (!goesOn || round === this.most?.size) {
        return scans && { state, scans, rounds: { size: round, symbol: null, expression: null } };
      }
      if (round >= bound) return null;
      const result = this.round(state, round);
      const before: Known[] = scans ?? result.scans;
      scans = result.scans.map((scan, index) => {
        const earlier = before[index];
        return scan && earlier ? joinValues(scan, earlier, `${this.node.outputs.at(-1) ?? ''}.scan`) : null;
      });
      state = result.state;
    }
  }
}

/** Directions, axes: one entry for each scanned value, 0 where the node says nothing. */
function listOf(node: Node, name: string, count: number): number[] {
  const given = getInts(node, name, []);
  return Array.from({ length: count }, (_, index) => given[index] ?? 0);
}

function inferScan(node: Node, opset: number, inputs: readonly Known[], infer: InferBody): Known[] {
  const body = bodyOf(node, 'body');
  const scanned = getInt(node, 'num_scan_inputs', 1);
  // Operator set 8 had a batch axis in front and the lengths as input 0.
  const lead = opset < 9 ? 1 : 0;
  const states = inputs.length - lead - scanned;
  const values = inputs.slice(lead);
  const axes = listOf(node, 'scan_input_axes', scanned);
  let length: ShapeDim | undefined;
  const slices = values.slice(states).map((value, index): Known => {
    if (!value) return null;
    const axis = lead === 1 ? 1 : axisOf(axes[index] ?? 0, value.dims.length);
    length ??= value.dims[axis];
    const dims = value.dims.filter((_, at) => at !== axis && (lead === 0 || at !== 0));
    return { dataType: value.dataType, dims };
  });
  const batch = values.find((value) => value !== null)?.dims[0];
  const count = length ?? open(`${node.outputs[0] ?? node.name}.length`);
  const noBatch = (value: Known): Known => (value && lead === 1 ? { ...value, dims: value.dims.slice(1) } : value);
  const { outputs } = infer(body, [...values.slice(0, states).map(withoutData).map(noBatch), ...slices]);
  const outAxes = listOf(node, 'scan_output_axes', outputs.length - states);
  return outputs.map((output, index): Known => {
    if (!output) return null;
    const dims = [...output.dims];
    if (index >= states) dims.splice(axisOf(outAxes[index - states] ?? 0, dims.length + 1), 0, count);
    if (lead === 1 && batch) dims.unshift(batch);
    return { dataType: output.dataType, dims };
  });
}

/** A state's elements change from step to step. */
function withoutData(value: Known): Known {
  return value && { dataType: value.dataType, dims: value.dims };
}

function inferSequenceMap(node: Node, inputs: readonly Known[], infer: InferBody): Known[] {
  const info = inputs[0]?.sequence;
  if (!info) throw new ShapeGap('the elements of the sequence are unknown');
  const element = (value: Known): Known => (value?.sequence ? value.sequence.element : value);
  const { outputs } = infer(bodyOf(node, 'body'), inputs.map(element));
  return outputs.map((output) => ({
    dataType: DataType.UNDEFINED,
    dims: [],
    sequence: { length: info.length, element: output, items: null },
  }));
}

/**
 * Outputs of If, Loop, Scan and SequenceMap. Bodies see the values around them; what a loop carries is joined over its
 * rounds until nothing changes, and followed round by round where only that tells its final size.
 */
export function inferControl(node: Node, opset: number, inputs: readonly Known[], infer: InferBody): Known[] {
  switch (node.opType) {
    case 'If':
      return inferIf(node, inputs, infer);
    case 'Loop':
      return new LoopInference(node, inputs, infer).outputs();
    case 'Scan':
      return inferScan(node, opset, inputs, infer);
    default:
      return inferSequenceMap(node, inputs, infer);
  }
}
