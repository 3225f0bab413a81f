import type { Dtype, MixShares, Provider, SensitivityBasis, WeightFormat } from '../contract/types.js';
import { indexGraph } from '../onnx/graph.js';
import type { Model } from '../onnx/model.js';
import type { FormatOption } from '../quantize/index.js';
import { ParetoFront } from './pareto.js';
import { formatKey, type Sensitivity } from './sensitivity.js';

/** Which bytes a budget is about: those in the file, or those the provider holds between runs. */
export type ByteKind = 'stored' | 'resident';

/** Formats for all weights, chosen together. */
export interface Mix {
  formats: ReadonlyMap<string, WeightFormat>;
  /** Noise each weight's format adds to the answers. */
  noises: ReadonlyMap<string, number>;
  storedBytes: number;
  residentBytes: number;
  /** Bytes of these weights in the original. */
  bytesBefore: number;
  noise: number;
  basis: SensitivityBasis;
}

interface Unit {
  weights: string[];
  /** One list for all weights of the unit: option i is option i of each. */
  options: FormatOption[][];
}

const bytesOf = (option: FormatOption, kind: ByteKind): number =>
  kind === 'stored' ? option.storedBytes : option.residentBytes;

/**
 * Chooses a format for every weight under a number of bytes so that the noises add up to the least: an exact
 * multiple-choice knapsack, solved once for all budgets.
 */
export class Mixer {
  private readonly fronts = new Map<ByteKind, ParetoFront>();
  private readonly units: Unit[];

  /**
   * @param pinned weight → dtype it must have
   * @param groups weights that must have the same format; see {@link agreeingWeights}
   */
  constructor(
    readonly sensitivity: Sensitivity,
    pinned: Readonly<Record<string, Dtype>> = {},
    groups: readonly (readonly string[])[] = [],
  ) {
    this.units = unitsOf(sensitivity, pinned, groups);
  }

  front(kind: ByteKind): ParetoFront {
    let front = this.fronts.get(kind);
    if (front === undefined) {
      front = new ParetoFront(
        this.units.map(({ weights, options }) =>
          options.map((each) => ({
            bytes: each.reduce((sum, option) => sum + bytesOf(option, kind), 0),
            noise: each.reduce((sum, option, at) => sum + this.sensitivity.noise(weights[at]!, option), 0),
          })),
        ),
      );
      this.fronts.set(kind, front);
    }
    return front;
  }

  /** The best mix within a number of bytes; null when even the smallest takes more. */
  within(bytes: number, kind: ByteKind): Mix | null {
    const point = this.front(kind).within(bytes);
    return point === null ? null : this.mix(point, kind);
  }

  /** The mix of a point of the front. */
  mix(point: number, kind: ByteKind): Mix {
    const formats = new Map<string, WeightFormat>();
    const noises = new Map<string, number>();
    const sum = { storedBytes: 0, residentBytes: 0, bytesBefore: 0, noise: 0 };
    this.front(kind)
      .choices(point)
      .forEach((choice, unit) => {
        const { weights, options } = this.units[unit]!;
        weights.forEach((weight, at) => {
          const option = options[choice]![at]!;
          const noise = this.sensitivity.noise(weight, option);
          formats.set(weight, option.format);
          noises.set(weight, noise);
          sum.storedBytes += option.storedBytes;
          sum.residentBytes += option.residentBytes;
          sum.bytesBefore += this.sensitivity.bytesBefore(weight);
          sum.noise += noise;
        });
      });
    return { formats, noises, ...sum, basis: this.sensitivity.basis };
  }
}

function unitsOf(
  { options }: Sensitivity,
  pinned: Readonly<Record<string, Dtype>>,
  groups: readonly (readonly string[])[],
): Unit[] {
  const grouped = new Set<string>();
  const units: Unit[] = [];
  const allowed = (weight: string): FormatOption[] => {
    const list = options.get(weight) ?? [];
    const asked = pinned[weight];
    // A format of the whole graph is no choice of a mix: such a weight is settled elsewhere and counts as it is.
    const fitting = list.filter(({ format }) => asked === undefined || format.dtype === asked);
    return fitting.length > 0 ? fitting : list.filter(({ format }) => format.dtype === 'fp32');
  };
  for (const group of groups) {
    const [first, ...others] = group.filter((weight) => options.has(weight));
    if (first === undefined || others.length === 0) continue;
    const common = allowed(first).flatMap((option) => {
      const key = formatKey(option.format);
      const rest = others.map((weight) => allowed(weight).find(({ format }) => formatKey(format) === key));
      return rest.every((each) => each !== undefined) ? [[option, ...rest]] : [];
    });
    if (common.length === 0) continue;
    for (const weight of [first, ...others]) grouped.add(weight);
    units.push({ weights: [first, ...others], options: common });
  }
  for (const weight of options.keys()) {
    if (grouped.has(weight)) continue;
    units.push({ weights: [weight], options: allowed(weight).map((option) => [option]) });
  }
  return units;
}

/**
 * Weights that read the same value and that the provider computes in one kernel only where their formats agree: query,
 * key and value, or gate and up, under webgpu (MatMulNBitsQkv, MatMulNBitsMlp). Elsewhere every weight is its own.
 */
export function agreeingWeights(model: Model, provider: Provider): string[][] {
  if (provider !== 'webgpu') return [];
  const { graph } = model;
  const index = indexGraph(graph);
  const byInput = new Map<string, string[]>();
  for (const node of graph.nodes) {
    const weight = node.inputs[1] ?? '';
    if (node.opType !== 'MatMul' || !graph.initializers.has(weight)) continue;
    // A weight of several readers cannot belong to two groups.
    if ((index.consumers.get(weight)?.length ?? 0) > 1) continue;
    const input = node.inputs[0]!;
    byInput.set(input, [...(byInput.get(input) ?? []), weight]);
  }
  return [...byInput.values()].filter((group) => group.length > 1);
}

/** Share of the weight bytes in each format. */
export function mixShares(weights: readonly { dtype: Dtype; bytesBefore: number }[]): MixShares {
  const total = weights.reduce((sum, { bytesBefore }) => sum + bytesBefore, 0) || 1;
  const shares: MixShares = {};
  for (const { dtype, bytesBefore } of weights) shares[dtype] = (shares[dtype] ?? 0) + bytesBefore / total;
  return shares;
}
