import type { Quality } from '../contract/types.js';
import type { Feeds, RuntimeTensor } from '../runtime/types.js';
import {
  addSignal,
  argMax,
  cosine,
  damageFromComparison,
  emptySignalSums,
  klFromLogits,
  klFromProbabilities,
  sqnrDb,
} from './metrics.js';

/** Outputs that are state, not answers: a KV cache handed back for the next step. */
const stateOutput = /^present|^past_|^cache/;

/** Names of the outputs a comparison looks at: float answers; the state only when there is nothing else. */
export function answerOutputs(outputs: { name: string; dtype: string }[]): string[] {
  const floats = outputs.filter((o) => o.dtype.startsWith('float'));
  const answers = floats.filter((o) => !stateOutput.test(o.name));
  return (answers.length > 0 ? answers : floats).map((o) => o.name);
}

type RowKind = 'logits' | 'probabilities' | 'none';

/**
 * Whether the rows of an output (its last axis) are a distribution over classes or tokens. Feature maps
 * (rank > 3) and embeddings without a telling name are not.
 */
function rowKind(name: string, tensor: RuntimeTensor): RowKind {
  const classes = tensor.dims.at(-1) ?? 0;
  if (tensor.dims.length < 2 || tensor.dims.length > 3 || classes < 2) return 'none';
  if (/embed|hidden|feature/i.test(name)) return 'none';
  if (tensor.dims.length === 3 && !/logit|score|prob/i.test(name)) return 'none';
  const rows = Math.min(tensor.data.length / classes, 16);
  for (let row = 0; row < rows; row++) {
    let sum = 0;
    for (let i = 0; i < classes; i++) {
      const value = Number(tensor.data[row * classes + i]);
      if (value < 0) return 'logits';
      sum += value;
    }
    if (Math.abs(sum - 1) > 1e-2) return 'logits';
  }
  return 'probabilities';
}

/** Compares the outputs of two models batch by batch; holds only sums. */
export class Comparison {
  private readonly sums = emptySignalSums();
  private rows = 0;
  private agreeing = 0;
  private klSum = 0;
  private samples = 0;
  private hasRows = false;
  private rowKinds = new Map<string, RowKind>();
  private readonly source: Quality['source'];

  constructor(source: Quality['source']) {
    this.source = source;
  }

  /** `samples` = how many samples this batch holds. Outputs missing on either side are ignored. */
  add(reference: Feeds, result: Feeds, samples: number): void {
    this.samples += samples;
    const names = Object.keys(reference).filter((name) => !stateOutput.test(name));
    for (const name of names.length > 0 ? names : Object.keys(reference)) {
      const a = reference[name];
      const b = result[name];
      if (!b || a.dtype !== 'float32' || b.dtype !== 'float32' || a.data.length !== b.data.length) continue;
      const expected = a.data as Float32Array;
      const actual = b.data as Float32Array;
      addSignal(this.sums, expected, actual);
      const kind = this.rowKinds.get(name) ?? rowKind(name, a);
      this.rowKinds.set(name, kind);
      if (kind === 'none') continue;
      this.hasRows = true;
      const classes = a.dims.at(-1) ?? 1;
      const divergence = kind === 'logits' ? klFromLogits : klFromProbabilities;
      for (let offset = 0; offset < expected.length; offset += classes) {
        this.rows++;
        if (argMax(expected, offset, classes) === argMax(actual, offset, classes)) this.agreeing++;
        this.klSum += divergence(expected, actual, offset, classes);
      }
    }
  }

  quality(): Quality {
    const sqnr = sqnrDb(this.sums);
    const top1 = this.hasRows && this.rows > 0 ? this.agreeing / this.rows : null;
    const kl = this.hasRows && this.rows > 0 ? this.klSum / this.rows : null;
    return {
      source: this.source,
      samples: this.samples,
      sqnrDb: sqnr,
      cosine: cosine(this.sums),
      top1Agreement: top1,
      klNats: kl,
      damage: damageFromComparison(sqnr, kl, top1),
    };
  }
}
