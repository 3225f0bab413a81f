import type { AxisGraph } from './axis-graph.js';
import { readBias, readWeights, writeRepair, type LinearConsumer } from './consumer.js';
import type { ConsumerFit, PieceFit } from './fits.js';
import type { ObsTrace } from './greedy-obs.js';
import { normalizeMoments, pooledMoments, ridgedCholesky, ridgeUnit, type CentredMoments } from './least-squares.js';
import type { Basis, ProducerBlock } from './linear-space.js';
import type { Edits } from './rewrite.js';
import { congruent, orthonormal, solveTransposed, symmetricEigen, transposed } from './small-matrices.js';

/** Ridge of the covariances, relative to their mean diagonal. */
const covarianceRidge = 1e-4;
/** Directions weaker than this share of the strongest are not stretched further. */
const weakest = 1e-6;

/** A change of basis: `columns · matrix` makes it, `inverse · rows` reads it; d × d. */
interface Change {
  matrix: Float64Array;
  inverse: Float64Array;
  /** What leaving out each new direction costs, strongest first. */
  losses: Float64Array;
}

/**
 * Turns every basis of a class so that its units are ordered by what leaving them out costs, whitened by what the
 * samples show (SVD of `Σ^½ W` for values, of `Σq^½ Σk^½` for queries with keys; SliceGPT and ASVD do the same): the
 * first k are the best k-dimensional subspace, which no choice of k of the old units beats. Writes the turned
 * producers into `edits` and turns the sums and weights of `fits` along; the network's answers stay the same.
 *
 * @param fits of the class's consumers
 * @param inputs sums over what the producers of queries and keys read
 */
export function rotateClass(
  graph: AxisGraph,
  edits: Edits,
  bases: readonly Basis[],
  width: number,
  fits: readonly ConsumerFit[],
  inputs: readonly ConsumerFit[],
): ObsTrace {
  const weights = new ProducerWeights(graph, edits);
  const energies = new Map(fits.map((fit) => [fit.consumer.use, energyOf(fit)]));
  const scores: Float64Array[] = [];
  const lost = new Float64Array(width);
  for (const basis of bases) {
    if (basis.kind === 'read') {
      const change = readBasis(basis, width, fits, energies);
      weights.turn(basis.made, change.matrix);
      for (const read of basis.reads) {
        const fit = fits.find(({ consumer }) => consumer.use === read.consumer.use)!;
        turnFit(fit.pieces[0]!, columnsOf(fit, read.indices), change);
      }
      change.losses.forEach((loss, unit) => (lost[unit]! += loss));
    } else {
      const change = scoreBasis(basis, width, inputs, weights);
      for (const queries of basis.queries) weights.turn(queries, change.matrix);
      // (q R)(k R⁻ᵀ)ᵀ is what it was.
      weights.turn(basis.keys, transposed(change.inverse, width));
      scores.push(change.losses);
    }
  }
  weights.write();
  const total = scores.reduce((sum, losses) => sum + losses.reduce((own, loss) => own + loss, 0), 0);
  for (const losses of scores) losses.forEach((loss, unit) => (lost[unit]! += total > 0 ? loss / total : 0));
  const order = Array.from({ length: width }, (_, at) => width - 1 - at);
  let sum = 0;
  return { order, losses: order.map((unit) => (sum += lost[unit]!)) };
}

/** Weights and biases of the producers, turned in place and written once. */
class ProducerWeights {
  readonly #known = new Map<LinearConsumer['use'], { producer: LinearConsumer; w: Float64Array; b: Float64Array }>();

  constructor(
    private readonly graph: AxisGraph,
    private readonly edits: Edits,
  ) {}

  of(producer: LinearConsumer): { w: Float64Array; b: Float64Array } {
    const known = this.#known.get(producer.use);
    if (known !== undefined) return known;
    const w = readWeights(this.graph, this.edits, producer);
    const own = { producer, w, b: readBias(this.graph, producer, this.edits) };
    this.#known.set(producer.use, own);
    return own;
  }

  turn({ producer, columns }: ProducerBlock, matrix: Float64Array): void {
    const { w, b } = this.of(producer);
    const { outputs } = producer;
    for (let row = 0; row < w.length; row += outputs)
      turnVector(w, (unit) => row + columns[unit]!, matrix, columns.length);
    turnVector(b, (unit) => columns[unit]!, matrix, columns.length);
  }

  write(): void {
    for (const { producer, w, b } of this.#known.values()) {
      const columns = Array.from({ length: w.length / producer.outputs }, (_, column) => column);
      writeRepair(this.graph, this.edits, producer, columns, { weights: w, bias: b });
    }
  }
}

/** `v ← v · matrix` over the entries that `at` names. */
function turnVector(values: Float64Array, at: (unit: number) => number, matrix: Float64Array, n: number): void {
  const old = Float64Array.from({ length: n }, (_, unit) => values[at(unit)]!);
  for (let to = 0; to < n; to++) {
    let sum = 0;
    for (let from = 0; from < n; from++) sum += old[from]! * matrix[from * n + to]!;
    values[at(to)] = sum;
  }
}

const energyOf = (fit: ConsumerFit): number =>
  fit.pieces.reduce((sum, piece) => sum + normalizeMoments(pooledMoments(piece), fit.withBias).targetEnergy, 0) || 1;

/** For every position of the kernel the current columns of a block's units; nothing where another class took them. */
function columnsOf({ consumer, pieces }: ConsumerFit, indices: readonly number[]): number[][] {
  const k = consumer.columnsPerIndex;
  const position = new Map(pieces[0]!.columns.map((column, at) => [column, at]));
  return Array.from({ length: k }, (_, tap) => indices.flatMap((index) => position.get(index * k + tap) ?? [])).filter(
    (columns) => columns.length === indices.length,
  );
}

/** The whitened basis of one block: eigenvectors of `Lᵀ W Wᵀ L` for `Σ = L Lᵀ`, made orthonormal in their order. */
function readBasis(
  { reads }: Extract<Basis, { kind: 'read' }>,
  n: number,
  fits: readonly ConsumerFit[],
  energies: ReadonlyMap<LinearConsumer['use'], number>,
): Change {
  const covariance = new Float64Array(n * n);
  const weighted = new Float64Array(n * n);
  for (const { consumer, indices } of reads) {
    const fit = fits.find((one) => one.consumer.use === consumer.use)!;
    const piece = fit.pieces[0]!;
    const { gram, inputs, outputs } = normalizeMoments(pooledMoments(piece), fit.withBias);
    const scale = 1 / energies.get(consumer.use)!;
    for (const columns of columnsOf(fit, indices)) {
      columns.forEach((row, r) => {
        columns.forEach((column, c) => {
          covariance[r * n + c]! += gram[row * inputs + column]!;
          let product = 0;
          for (let o = 0; o < outputs; o++)
            product += piece.weights[row * outputs + o]! * piece.weights[column * outputs + o]!;
          weighted[r * n + c]! += scale * product;
        });
      });
    }
  }
  const lower = lowerFactor(covariance, n);
  const { values, vectors } = symmetricEigen(congruent(lower, weighted, n), n);
  const matrix = orthonormal(solveTransposed(lower, vectors, n), n);
  return { matrix, inverse: transposed(matrix, n), losses: values.map((value) => Math.max(value, 0)) };
}

/** `R = L_q⁻ᵀ U S^½` for `L_qᵀ Σk L_q = U S² Uᵀ`; its inverse, transposed, is what keys are turned by. */
function scoreBasis(
  { keys, queries }: Extract<Basis, { kind: 'score' }>,
  n: number,
  inputs: readonly ConsumerFit[],
  weights: ProducerWeights,
): Change {
  const q = new Float64Array(n * n);
  for (const block of queries) addOutputGram(q, block, n, inputs, weights, false);
  // Softmax takes no notice of what all keys have in common.
  const k = addOutputGram(new Float64Array(n * n), keys, n, inputs, weights, true);
  const lower = lowerFactor(q, n);
  const { values, vectors } = symmetricEigen(congruent(lower, k, n), n);
  const floor = Math.max(values[0]! * weakest, Number.MIN_VALUE);
  const stretch = values.map((value) => Math.max(value, floor) ** 0.25);
  const matrix = solveTransposed(lower, vectors, n);
  // The inverse of L⁻ᵀ U S^½ is S^-½ Uᵀ Lᵀ.
  const inverse = new Float64Array(n * n);
  for (let row = 0; row < n; row++) {
    for (let column = 0; column < n; column++) {
      matrix[row * n + column]! *= stretch[column]!;
      let sum = 0;
      for (let i = 0; i <= column; i++) sum += vectors[i * n + row]! * lower[column * n + i]!;
      inverse[row * n + column] = sum / stretch[row]!;
    }
  }
  return { matrix, inverse, losses: values.map((value) => Math.max(value, 0)) };
}

/** Adds the second moments of a block's outputs: raw with the bias, or centred. */
function addOutputGram(
  target: Float64Array,
  { producer, columns }: ProducerBlock,
  n: number,
  inputs: readonly ConsumerFit[],
  weights: ProducerWeights,
  centred: boolean,
): Float64Array {
  const { pieces } = inputs.find(({ consumer }) => consumer.use.activation === producer.use.activation)!;
  const [piece] = pieces as [PieceFit];
  const moments: CentredMoments = normalizeMoments(pooledMoments(piece), true);
  const { w, b } = weights.of(producer);
  const rows = piece.columns.map((row) => row * producer.outputs);
  const size = rows.length;
  const block = Float64Array.from({ length: size * n }, (_, at) => w[rows[Math.floor(at / n)]! + columns[at % n]!]!);
  const seen = new Float64Array(size * n);
  for (let i = 0; i < size; i++) {
    for (let j = 0; j < size; j++) {
      const factor = moments.gram[i * size + j]!;
      for (let u = 0; u < n; u++) seen[i * n + u]! += factor * block[j * n + u]!;
    }
  }
  const mean = columns.map((column, u) =>
    moments.inputMean.reduce((sum, value, i) => sum + value * block[i * n + u]!, b[column]!),
  );
  for (let r = 0; r < n; r++) {
    for (let c = 0; c < n; c++) {
      let sum = centred ? 0 : mean[r]! * mean[c]!;
      for (let i = 0; i < size; i++) sum += block[i * n + r]! * seen[i * n + c]!;
      target[r * n + c]! += sum;
    }
  }
  return target;
}

/** Sums and weights of a consumer as if its input had come in the new basis. */
function turnFit(
  { training, heldOut, weights }: PieceFit,
  taps: readonly (readonly number[])[],
  { matrix, inverse }: Change,
): void {
  for (const columns of taps) {
    const n = columns.length;
    const { outputs } = training;
    const back = transposed(inverse, n);
    for (let o = 0; o < outputs; o++) turnVector(weights, (unit) => columns[unit]! * outputs + o, back, n);
    for (const { gram, cross, inputSum, inputs } of [training, heldOut]) {
      for (let i = 0; i < inputs; i++) turnVector(gram, (unit) => columns[unit]! * inputs + i, matrix, n);
      for (let i = 0; i < inputs; i++) turnVector(gram, (unit) => i * inputs + columns[unit]!, matrix, n);
      for (let o = 0; o < outputs; o++) turnVector(cross, (unit) => columns[unit]! * outputs + o, matrix, n);
      turnVector(inputSum, (unit) => columns[unit]!, matrix, n);
    }
  }
}

const lowerFactor = (matrix: Float64Array, n: number): Float64Array =>
  ridgedCholesky(matrix, n, covarianceRidge * ridgeUnit(matrix, n)).factor;
