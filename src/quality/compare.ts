import type { OutputDamage, Quality, ValueDamage } from '../contract/types.js';
import { castArray, isFloatType } from '../runtime/arrays.js';
import type { Feeds, RuntimeTensor } from '../runtime/types.js';
import { countsClasses } from './labels.js';
import {
  addSignal,
  argMax,
  cosine,
  damageFromComparison,
  damageFromSqnr,
  emptySignalSums,
  klFromLogits,
  klFromProbabilities,
  nats,
  type SignalSums,
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

const float32Of = ({ data, dtype }: RuntimeTensor): Float32Array => castArray(data, dtype, 'float32') as Float32Array;

type RowKind = 'logits' | 'probabilities' | 'none';

/** Whether the rows of an output (its last axis) are a distribution over classes or tokens. */
function rowKind(name: string, dims: readonly number[], data: Float32Array): RowKind {
  const classes = dims.at(-1) ?? 0;
  if (!countsClasses({ name, dims })) return 'none';
  const rows = Math.min(data.length / classes, 16);
  for (let row = 0; row < rows; row++) {
    let sum = 0;
    for (let i = 0; i < classes; i++) {
      const value = data[row * classes + i] as number;
      if (value < 0) return 'logits';
      sum += value;
    }
    if (Math.abs(sum - 1) > 1e-2) return 'logits';
  }
  return 'probabilities';
}

/** What is true of the samples of one batch, where it is known. */
export interface Truth {
  /** Inputs of the batch: token ids in them say which tokens follow. */
  feeds?: Feeds;
  /** The right class of each sample. */
  labels?: ArrayLike<number | bigint>;
}

interface RowSums {
  signal: SignalSums;
  kind: RowKind;
  rows: number;
  agreeing: number;
  klSum: number;
}

/** Compares the outputs of two models batch by batch; holds only sums. */
export class Comparison {
  private readonly sums = emptySignalSums();
  private readonly outputs = new Map<string, RowSums>();
  private readonly next = { tokens: 0, before: 0, after: 0 };
  private readonly right = { samples: 0, before: 0, after: 0 };
  /** The output that labels are held against: the first that can be. */
  private labelled: string | null = null;
  private samples = 0;
  private readonly source: Quality['source'];

  constructor(source: Quality['source']) {
    this.source = source;
  }

  /** `samples` = how many samples this batch holds. Outputs missing on either side are ignored. */
  add(reference: Feeds, result: Feeds, samples: number, truth: Truth = {}): void {
    this.samples += samples;
    const names = Object.keys(reference).filter((name) => !stateOutput.test(name));
    for (const name of names.length > 0 ? names : Object.keys(reference)) {
      const a = reference[name];
      const b = result[name];
      if (!b || !isFloatType(a.dtype) || !isFloatType(b.dtype) || a.data.length !== b.data.length) continue;
      const expected = float32Of(a);
      const actual = float32Of(b);
      let output = this.outputs.get(name);
      if (output === undefined) {
        output = { signal: emptySignalSums(), kind: rowKind(name, a.dims, expected), rows: 0, agreeing: 0, klSum: 0 };
        this.outputs.set(name, output);
      }
      addSignal(this.sums, expected, actual);
      addSignal(output.signal, expected, actual);
      if (output.kind === 'none') continue;
      const classes = a.dims.at(-1) ?? 1;
      const divergence = output.kind === 'logits' ? klFromLogits : klFromProbabilities;
      for (let offset = 0; offset < expected.length; offset += classes) {
        output.rows++;
        if (argMax(expected, offset, classes) === argMax(actual, offset, classes)) output.agreeing++;
        output.klSum += divergence(expected, actual, offset, classes);
      }
      this.judge(name, output.kind, a.dims, expected, actual, truth);
    }
  }

  /** Counts right answers where labels say what is right, and the likelihood of the tokens that really follow. */
  private judge(
    name: string,
    kind: RowKind,
    dims: number[],
    expected: Float32Array,
    actual: Float32Array,
    truth: Truth,
  ): void {
    const [count = 0, second = 0] = dims;
    const { labels } = truth;
    const fits = labels !== undefined && dims.length === 2 && labels.length === count;
    if (fits) this.labelled ??= name;
    if (fits && this.labelled === name) {
      for (let row = 0; row < count; row++) {
        this.right.samples++;
        if (argMax(expected, row * second, second) === Number(labels[row])) this.right.before++;
        if (argMax(actual, row * second, second) === Number(labels[row])) this.right.after++;
      }
    }
    const ids = truth.feeds?.input_ids;
    const [batch, length] = ids?.dims ?? [];
    if (!ids || kind !== 'logits' || dims.length !== 3 || batch !== count || length !== second) return;
    const classes = dims[2]!;
    for (let row = 0; row < count; row++) {
      for (let at = 0; at + 1 < second; at++) {
        const token = Number(ids.data[row * second + at + 1]);
        if (token < 0 || token >= classes) continue;
        const offset = (row * second + at) * classes;
        this.next.tokens++;
        this.next.before += nats(expected, offset, classes, token);
        this.next.after += nats(actual, offset, classes, token);
      }
    }
  }

  quality(): Quality {
    const sqnr = sqnrDb(this.sums);
    const outputs = [...this.outputs].map(([value, sums]) => outputDamage(value, sums));
    const judged = [...this.outputs.values()].filter(({ rows }) => rows > 0);
    const rows = judged.reduce((sum, output) => sum + output.rows, 0);
    const top1 = rows > 0 ? judged.reduce((sum, { agreeing }) => sum + agreeing, 0) / rows : null;
    const kl = rows > 0 ? judged.reduce((sum, { klSum }) => sum + klSum, 0) / rows : null;
    const { next, right } = this;
    return {
      source: this.source,
      samples: this.samples,
      sqnrDb: sqnr,
      cosine: cosine(this.sums),
      top1Agreement: top1,
      klNats: kl,
      damage: damageFromComparison(sqnr, kl, top1),
      outputs,
      ...(next.tokens > 0 && this.source === 'samples'
        ? {
            perplexity: {
              before: Math.exp(next.before / next.tokens),
              after: Math.exp(next.after / next.tokens),
              tokens: next.tokens,
            },
          }
        : {}),
      ...(right.samples > 0
        ? {
            accuracy: {
              before: right.before / right.samples,
              after: right.after / right.samples,
              samples: right.samples,
            },
          }
        : {}),
    };
  }
}

function outputDamage(value: string, { signal, rows, agreeing, klSum }: RowSums): OutputDamage {
  const [top1, kl] = rows > 0 ? [agreeing / rows, klSum / rows] : [null, null];
  return {
    ...valueDamage(value, signal),
    top1Agreement: top1,
    klNats: kl,
    damage: damageFromComparison(sqnrDb(signal), kl, top1),
  };
}

/** How far one value is off, by its sums alone. */
export function valueDamage(value: string, sums: SignalSums): ValueDamage {
  const sqnr = sqnrDb(sums);
  return { value, sqnrDb: sqnr, cosine: cosine(sums), damage: damageFromSqnr(sqnr) };
}
