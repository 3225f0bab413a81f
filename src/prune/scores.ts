import { dataTypeBits, elementCount, memoryData, readFloat32 } from '../onnx/tensor.js';
import { unitIndices } from './axis-atoms.js';
import type { AxisGraph } from './axis-graph.js';
import type { PruneClass, PruneMember } from './classes.js';

/** Squared L2 norm of every unit's slice of one member. */
export function unitEnergies(graph: AxisGraph, member: PruneMember, width: number): Float64Array {
  const tensor = graph.constant(member.initializer)!;
  const values = readFloat32(tensor);
  const inner = tensor.dims.slice(member.axis + 1).reduce((product, dim) => product * dim, 1);
  const along = tensor.dims[member.axis]!;
  const perIndex = new Float64Array(along);
  for (let start = 0, index = 0; start < values.length; start += inner) {
    let sum = 0;
    for (let i = start; i < start + inner; i++) sum += values[i]! ** 2;
    perIndex[index]! += sum;
    index = index + 1 === along ? 0 : index + 1;
  }
  return Float64Array.from({ length: width }, (_, unit) =>
    unitIndices(member.segments, unit).reduce((sum, index) => sum + perIndex[index]!, 0),
  );
}

/** Weights with at most so many elements are read whole for planning. */
const sampledFrom = 1 << 18;
/** Elements read of a larger one: whole rows where the axis is not the outermost, else a run within every index. */
const rowElements = 1 << 17;
const runElements = 64;

/**
 * {@link unitEnergies} from a sample of the weight, scaled up: a good guess at a fraction of the reading, for planning
 * only. Weights that are no plain floats in a file are read whole.
 */
export function sampledUnitEnergies(graph: AxisGraph, member: PruneMember, width: number): Float64Array {
  const tensor = graph.constant(member.initializer)!;
  const elements = elementCount(tensor.dims);
  const bits = dataTypeBits(tensor.dataType) ?? 0;
  if (elements <= sampledFrom || bits < 16 || tensor.data.origin === 'computed') {
    return unitEnergies(graph, member, width);
  }
  const inner = elementCount(tensor.dims.slice(member.axis + 1));
  const along = tensor.dims[member.axis]!;
  const outer = elements / inner / along;
  const bytes = bits / 8;
  const read = (start: number, count: number): Float32Array =>
    readFloat32({ ...tensor, dims: [count], data: memoryData(tensor.data.readRange(start * bytes, count * bytes)) });
  const perIndex = new Float64Array(along);
  const energy = (values: Float32Array): number => values.reduce((sum, value) => sum + value ** 2, 0);
  const rows = Math.min(outer, Math.max(4, Math.floor(rowElements / (along * inner))));
  const run = outer === 1 ? Math.min(inner, runElements) : inner;
  for (let row = 0; row < rows; row++) {
    const start = Math.floor((row * outer) / rows) * along * inner;
    const values = outer === 1 ? null : read(start, along * inner);
    for (let index = 0; index < along; index++) {
      // Another place in every index, so that no part of the inner axes is left out everywhere.
      const from = index * inner + (run < inner ? (index * run) % (inner - run + 1) : 0);
      const own = values === null ? read(start + from, run) : values.subarray(from, from + run);
      perIndex[index]! += (energy(own) * outer * inner) / (rows * run);
    }
  }
  return Float64Array.from({ length: width }, (_, unit) =>
    unitIndices(member.segments, unit).reduce((sum, index) => sum + perIndex[index]!, 0),
  );
}

/** Units by falling L2 norm of everything that would go with them: producer rows and consumer columns. */
export function rankByMagnitude(graph: AxisGraph, one: PruneClass): number[] {
  const total = new Float64Array(one.width);
  for (const member of one.members) {
    if (member.role === 'elementwise') continue;
    unitEnergies(graph, member, one.width).forEach((energy, unit) => (total[unit]! += energy));
  }
  return [...total.keys()].sort((a, b) => total[b]! - total[a]! || a - b);
}

/** A seeded random order of units; depends on the seed and the class only, never on other classes. */
export function rankAtRandom(one: PruneClass, seed: number): number[] {
  const next = generator(seed ^ hash(one.id));
  const order = Array.from({ length: one.width }, (_, unit) => unit);
  for (let i = order.length - 1; i > 0; i--) {
    const j = Math.floor(next() * (i + 1));
    [order[i], order[j]] = [order[j]!, order[i]!];
  }
  return order;
}

/** 32-bit FNV-1a of the text's UTF-16 units. */
function hash(text: string): number {
  let value = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) value = Math.imul(value ^ text.charCodeAt(i), 0x01000193);
  return value >>> 0;
}

/** Small seeded generator of numbers in [0, 1) (a 32-bit Weyl sequence through an integer mixer). */
function generator(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x9e3779b9) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 16), 0x21f0aaad);
    mixed = Math.imul(mixed ^ (mixed >>> 15), 0x735a2d97);
    return ((mixed ^ (mixed >>> 15)) >>> 0) / 2 ** 32;
  };
}
