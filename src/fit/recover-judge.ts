import path from 'node:path';
import type { OutputDamage, Quality } from '../contract/types.js';
import type { Model } from '../onnx/model.js';
import { writeModel } from '../onnx/write.js';
import type { Dataset } from '../runtime/dataset-types.js';
import type { Runtime } from '../runtime/types.js';
import { forwardGraph, type InputDims } from '../train/forward.js';
import { Reference } from './reference.js';

export type AnswerDamage = Pick<OutputDamage, 'sqnrDb' | 'klNats' | 'damage'>;

/** How far the answers of a model are from the original's. */
export interface Verdict {
  /** The answer that is trained. */
  main: AnswerDamage;
  others: AnswerDamage[];
}

export interface JudgeRequest {
  original: Model;
  /** The answer that is trained, then the others. */
  outputs: readonly string[];
  inputDims: InputDims;
  heldOut: Dataset;
  runtime: Runtime;
  /** For temporary files. */
  folder: string;
  signal?: AbortSignal | undefined;
}

/** Samples in one run where answers are compared. */
const compareBatch = 8;

/** Share of the damage that may be left: few samples judge, and a small difference on them may be chance. */
const mostLeft = 0.9;

/** So many times the damage another answer had is chance, and so little of it no harm (a noise of 40 dB; nats). */
const tolerance = { most: 1.05, harmless: 1e-4 };

/** Compares answers with the original's on samples that nothing is trained on. */
export class RecoveryJudge {
  private constructor(
    private readonly request: JudgeRequest,
    private readonly reference: Reference,
  ) {}

  /** @throws whatever stops a run */
  static async open(request: JudgeRequest): Promise<RecoveryJudge> {
    const { original, outputs, inputDims, heldOut, runtime, folder, signal } = request;
    const modelPath = path.join(folder, 'original.onnx');
    writeModel(forwardGraph(original, { inputDims, outputs }), modelPath, { overwrite: true });
    const spec = { modelPath, provider: 'cpu' } as const;
    const reference = await Reference.collect(runtime, spec, heldOut, heldOut.dims, compareBatch, [], signal);
    return new RecoveryJudge(request, reference);
  }

  /** @throws whatever stops a run */
  async compare(model: Model): Promise<Verdict> {
    const { outputs, inputDims, runtime, folder, signal } = this.request;
    const modelPath = path.join(folder, 'judged.onnx');
    writeModel(forwardGraph(model, { inputDims, outputs }), modelPath, { overwrite: true });
    const quality = await this.reference.compare(runtime, { modelPath, provider: 'cpu' }, signal);
    const [main, ...rest] = outputs.map((name) => answerOf(quality, name));
    return { main: main ?? quality, others: rest.flatMap((answer) => answer ?? []) };
  }
}

const answerOf = ({ outputs }: Quality, name: string): OutputDamage | undefined =>
  outputs?.find(({ value }) => value === name);

/** Higher is worse; 0 = none. */
export const harmOf = ({ klNats, sqnrDb }: AnswerDamage): number => klNats ?? 10 ** (-sqnrDb / 10);

/** Whether the answer that was trained is closer by more than chance. */
export const isCloser = (after: Verdict, before: Verdict): boolean =>
  harmOf(after.main) <= harmOf(before.main) * mostLeft;

/** Whether another answer is further from the original than before, by more than chance. */
export const harmsOthers = (after: Verdict, before: Verdict): boolean =>
  after.others.some(
    (other, at) => harmOf(other) > Math.max(tolerance.harmless, harmOf(before.others[at] ?? other) * tolerance.most),
  );
