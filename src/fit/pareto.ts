/** One way to hold a unit (a weight, or weights that must agree). */
export interface UnitOption {
  /** What it takes; the budget is a sum of these. */
  bytes: number;
  /** What it adds to the error of the answers, ≥ 0. */
  noise: number;
}

export interface FrontPoint {
  bytes: number;
  noise: number;
}

/** Partial mixes kept after each unit; beyond so many, one of neighbouring bytes stands for the others. */
const keptStates = 8192;

/** Over how many ranges to each side the price of a byte is taken. */
const slopeReach = 32;

interface Stage {
  /** For each state after this unit: the state before it and the option taken. */
  parents: Int32Array;
  options: Uint16Array;
}

/**
 * The whole Pareto front of a multiple-choice knapsack: one option for each unit, bytes and noise added up. Dynamic
 * programming over lists of undominated partial sums (Nemhauser and Ullmann 1969), exact as long as no list grows
 * beyond 8192 states; then of states whose bytes lie within 1/8192 of the range one is kept, with its exact bytes. Picking a mix for a budget afterwards walks back once over the units.
 */
export class ParetoFront {
  /** By rising bytes and falling noise. */
  readonly points: readonly FrontPoint[];
  private readonly stages: Stage[] = [];

  /** @param units options of each unit, at least one each */
  constructor(units: readonly (readonly UnitOption[])[]) {
    let bytes = Float64Array.of(0);
    let noise = Float64Array.of(0);
    let widest = 0;
    for (const options of units) {
      widest += Math.max(...options.map((option) => option.bytes));
      const next = extend(bytes, noise, options, widest);
      ({ bytes, noise } = next);
      this.stages.push({ parents: next.parents, options: next.options });
    }
    this.points = Array.from(bytes, (value, at) => ({ bytes: value, noise: noise[at]! }));
  }

  /** The last point within a number of bytes; null when even the smallest is larger. */
  within(bytes: number): number | null {
    let low = 0;
    let high = this.points.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.points[middle]!.bytes <= bytes) low = middle + 1;
      else high = middle;
    }
    return low === 0 ? null : low - 1;
  }

  /** Option of each unit at a point of the front. */
  choices(point: number): number[] {
    const chosen = new Array<number>(this.stages.length);
    let at = point;
    for (let unit = this.stages.length - 1; unit >= 0; unit--) {
      const { parents, options } = this.stages[unit]!;
      chosen[unit] = options[at]!;
      at = parents[at]!;
    }
    return chosen;
  }
}

interface Extended extends Stage {
  bytes: Float64Array<ArrayBuffer>;
  noise: Float64Array<ArrayBuffer>;
}

/** All states with each option added, the dominated ones left out. */
function extend(bytes: Float64Array, noise: Float64Array, options: readonly UnitOption[], widest: number): Extended {
  const count = bytes.length * options.length;
  const allBytes = new Float64Array(count);
  const allNoise = new Float64Array(count);
  for (let option = 0, at = 0; option < options.length; option++) {
    for (let state = 0; state < bytes.length; state++, at++) {
      allBytes[at] = bytes[state]! + options[option]!.bytes;
      allNoise[at] = noise[state]! + options[option]!.noise;
    }
  }
  const order = count <= 4 * keptStates ? sorted(allBytes, allNoise) : bucketed(allBytes, allNoise, widest);
  const kept: number[] = [];
  let least = Infinity;
  for (const at of order) {
    if (allNoise[at]! >= least) continue;
    least = allNoise[at]!;
    kept.push(at);
  }
  const thin = kept.length > keptStates ? thinned(kept, allBytes) : kept;
  return {
    bytes: Float64Array.from(thin, (at) => allBytes[at]!),
    noise: Float64Array.from(thin, (at) => allNoise[at]!),
    parents: Int32Array.from(thin, (at) => at % bytes.length),
    options: Uint16Array.from(thin, (at) => Math.floor(at / bytes.length)),
  };
}

function sorted(bytes: Float64Array, noise: Float64Array): Uint32Array {
  const order = new Uint32Array(bytes.length);
  for (let at = 0; at < order.length; at++) order[at] = at;
  return order.sort((a, b) => bytes[a]! - bytes[b]! || noise[a]! - noise[b]!);
}

/**
 * One state for each of many equal ranges of bytes, by rising bytes: the best at the price of a byte that holds around
 * there. The least noisy of a range would also be its largest, and such losses would add up from unit to unit.
 */
function bucketed(bytes: Float64Array, noise: Float64Array, widest: number): number[] {
  const bucketOf = (at: number): number => Math.floor((bytes[at]! / (widest || 1)) * keptStates);
  const least = new Float64Array(keptStates + 1).fill(Infinity);
  for (let at = 0; at < bytes.length; at++) {
    const bucket = bucketOf(at);
    if (noise[at]! < least[bucket]!) least[bucket] = noise[at]!;
  }
  for (let bucket = 1; bucket <= keptStates; bucket++) {
    least[bucket] = Math.min(least[bucket]!, least[bucket - 1]!);
  }
  const price = Float64Array.from(least, (_, bucket) => {
    const [below, above] = [Math.max(0, bucket - slopeReach), Math.min(keptStates, bucket + slopeReach)];
    const drop = least[below]! - least[above]!;
    return Number.isFinite(drop) ? (drop * keptStates) / ((above - below) * widest) : 0;
  });
  const best = new Int32Array(keptStates + 1).fill(-1);
  const cost = new Float64Array(keptStates + 1).fill(Infinity);
  for (let at = 0; at < bytes.length; at++) {
    const bucket = bucketOf(at);
    const own = noise[at]! + price[bucket]! * bytes[at]!;
    if (own < cost[bucket]!) [best[bucket], cost[bucket]] = [at, own];
  }
  return Array.from(best).filter((at) => at >= 0);
}

/** Of an undominated list by rising bytes, evenly spread over its bytes; both ends stay. */
function thinned(list: readonly number[], bytes: Float64Array): number[] {
  const first = bytes[list[0]!]!;
  const step = (bytes[list[list.length - 1]!]! - first) / keptStates;
  const kept: number[] = [];
  let bucket = -1;
  for (const at of list) {
    const here = Math.floor((bytes[at]! - first) / step);
    // The last of a range is the least noisy of it.
    if (here === bucket && kept.length > 1) kept[kept.length - 1] = at;
    else kept.push(at);
    bucket = here;
  }
  return kept;
}
