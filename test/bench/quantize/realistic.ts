import type { Model, Tensor } from '../../../src/onnx/model.js';
import { DataType } from '../../../src/onnx/model.js';
import { computedData, elementCount } from '../../../src/onnx/tensor.js';

/** Prime, so that no two rows of a weight start at the same place. */
const tableLength = 1_048_573;

function generator(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    // xorshift32, then into (0, 1).
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return ((state >>> 0) + 0.5) / 2 ** 32;
  };
}

const normal = (uniform: () => number): number =>
  Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform());

/** Student's t with five degrees of freedom, scaled to unit variance: the tails of trained weights. */
function heavyTable(): Float32Array {
  const uniform = generator(0x1234567);
  return Float32Array.from({ length: tableLength }, () => {
    let squares = 0;
    for (let i = 0; i < 5; i++) squares += normal(uniform) ** 2;
    return normal(uniform) * Math.sqrt(3 / squares);
  });
}

let table: Float32Array | null = null;

function hash(text: string): number {
  let value = 2166136261;
  for (let i = 0; i < text.length; i++) value = Math.imul(value ^ text.charCodeAt(i), 16777619);
  return (value >>> 0) % tableLength || 1;
}

/**
 * Gives a generated model the statistics of trained ones, by name and thus by seed: matrices and kernels with the
 * tails of Student's t₅ at the deviation they had, rows and columns of different strength (log-normal, σ = 0.3), and
 * normalization gains that are log-normal (σ = 0.2) with one channel in 128 four times larger, which makes the
 * outlier channels real activations have.
 */
export function makeRealistic(model: Model): void {
  table ??= heavyTable();
  for (const tensor of model.graph.initializers.values()) {
    if (tensor.dataType !== DataType.FLOAT) continue;
    if (tensor.dims.length >= 2) heavyWeight(tensor, table);
    else if (/norm/i.test(tensor.name) && tensor.name.endsWith('.weight')) gains(tensor);
  }
}

function heavyWeight(tensor: Tensor, values: Float32Array): void {
  const { name, dims, data } = tensor;
  const count = elementCount(dims);
  const inner = dims[dims.length - 1]!;
  const sample = new Float32Array(data.readRange(0, Math.min(count, 4096) * 4).slice().buffer);
  const deviation = Math.sqrt(sample.reduce((sum, value) => sum + value * value, 0) / sample.length);
  tensor.data = computedData(count * 4, () => {
    const uniform = generator(hash(name));
    const strengths = (size: number): Float32Array =>
      Float32Array.from({ length: size }, () => Math.exp(0.3 * normal(uniform) - 0.045));
    const [rows, columns] = [strengths(count / inner), strengths(inner)];
    const result = new Float32Array(count);
    let from = hash(name);
    for (let i = 0, row = 0; row < rows.length; row++) {
      const strength = deviation * rows[row]!;
      for (let column = 0; column < inner; column++, i++) {
        result[i] = strength * columns[column]! * values[from]!;
        from = from + 1 === tableLength ? 0 : from + 1;
      }
    }
    return new Uint8Array(result.buffer);
  });
}

function gains(tensor: Tensor): void {
  const count = elementCount(tensor.dims);
  tensor.data = computedData(count * 4, () => {
    const uniform = generator(hash(tensor.name));
    const values = Float32Array.from(
      { length: count },
      () => Math.exp(0.2 * normal(uniform)) * (uniform() < 1 / 128 ? 4 : 1),
    );
    return new Uint8Array(values.buffer);
  });
}

/** Images with the spectrum of photographs: waves of many lengths, strong where they are long, and a little noise. */
export function images(count: number, size: number, seed: number): Float32Array {
  const uniform = generator(seed);
  const result = new Float32Array(count * 3 * size * size);
  for (let plane = 0; plane < count * 3; plane++) {
    const waves = Array.from({ length: 12 }, () => {
      const length = 2 ** (2 + 6 * uniform());
      const angle = 2 * Math.PI * uniform();
      const k = (2 * Math.PI) / length;
      return { x: k * Math.cos(angle), y: k * Math.sin(angle), phase: 6.28 * uniform(), height: Math.sqrt(length) / 8 };
    });
    for (let y = 0, at = plane * size * size; y < size; y++) {
      for (let x = 0; x < size; x++, at++) {
        let sum = 0.05 * (uniform() - 0.5);
        for (const wave of waves) sum += wave.height * Math.sin(wave.x * x + wave.y * y + wave.phase);
        result[at] = sum;
      }
    }
  }
  return result;
}

/** Word numbers as rare as words are (Zipf). */
export function words(count: number, vocabulary: number, seed: number): BigInt64Array {
  const uniform = generator(seed);
  return BigInt64Array.from({ length: count }, () => BigInt(Math.floor(vocabulary ** uniform()) - 1));
}
