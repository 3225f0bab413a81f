import type { InferenceSession, Tensor } from 'onnxruntime-node';
import { SnugError } from '../contract/errors.js';
import { bytesOfValues, Garbage } from './garbage.js';
import { clipFactor, gradientNorm, updateParameter, zeroBits, type OptimizedParameter } from './optimizer.js';
import { createSession, onnxruntime, runSession, toTensors } from './session.js';
import { readTrainingState, writeTrainingState, type StateTensor } from './training-state.js';
import type { EvaluationResult, StepResult, TrainingSpec } from './training-types.js';
import type { Feeds } from './types.js';

/**
 * Training inside the onnxruntime process. Parameters, moments and added-up gradients live in this process for as
 * long as it runs and are changed in place: the runtime reads the parameters where they are, and each step moves
 * nothing but one micro-batch across the process border.
 */
export class Training {
  readonly #spec: TrainingSpec;
  readonly #parameters: ReadonlyMap<string, OptimizedParameter>;
  /** The same memory as the parameters' values. */
  readonly #tensors: Readonly<Record<string, Tensor>>;
  #gradientSession: InferenceSession | null;
  #evaluationSession: InferenceSession | null = null;
  #teacherSession: InferenceSession | null = null;
  /** Gradients added up over the micro-batches of a batch that is not complete yet. */
  #pending: Map<string, Float32Array> | null = null;
  #updates: number;
  /** Bytes of values of the last run. */
  #spent = 0;
  readonly #garbage = new Garbage();

  static async open(spec: TrainingSpec): Promise<Training> {
    const runtime = await onnxruntime();
    const state = readTrainingState(spec.statePath);
    const find = (name: string, part: StateTensor['part']): StateTensor | undefined =>
      state.tensors.find((tensor) => tensor.name === name && tensor.part === part);
    const parameters = new Map<string, OptimizedParameter>();
    const tensors: Record<string, Tensor> = {};
    for (const name of Object.keys(spec.gradientOutputs)) {
      const start = find(name, 'value');
      if (!start) throw new SnugError('E_INTERNAL', `The training state has no values for "${name}".`);
      const { data, dims } = start;
      const moment = (part: 'moment1' | 'moment2', needed: boolean): Float32Array =>
        find(name, part)?.data ?? new Float32Array(needed ? data.length : 0);
      parameters.set(name, {
        dims,
        value: data,
        moment1: moment('moment1', true),
        moment2: moment('moment2', spec.optimizer.kind === 'adamw'),
        zeros: spec.keepZeros.includes(name) ? zeroBits(data, dims) : null,
      });
      tensors[name] = new runtime.Tensor('float32', data, dims);
    }
    const session = await createSession({ ...spec.session, modelPath: spec.gradientPath });
    return new Training(spec, parameters, tensors, session, state.updates);
  }

  private constructor(
    spec: TrainingSpec,
    parameters: ReadonlyMap<string, OptimizedParameter>,
    tensors: Readonly<Record<string, Tensor>>,
    session: InferenceSession,
    updates: number,
  ) {
    this.#spec = spec;
    this.#parameters = parameters;
    this.#tensors = tensors;
    this.#gradientSession = session;
    this.#updates = updates;
  }

  async step(feeds: Feeds, weight: number, rate: number | null): Promise<StepResult> {
    const runtime = await onnxruntime();
    this.#collect();
    const session = await this.#gradients();
    const data = await this.#withTarget(feeds);
    data[this.#spec.weight] = new runtime.Tensor('float32', Float32Array.of(weight), []);
    const outputs = await runSession(session, { ...data, ...this.#tensors });
    this.#spent = bytesOfValues(feeds) + bytesOfValues(outputs);
    try {
      const lossSum = numberOf(outputs[this.#spec.loss]);
      const fresh = new Map<string, Float32Array>();
      for (const [parameter, output] of Object.entries(this.#spec.gradientOutputs)) {
        fresh.set(parameter, outputs[output]?.data as Float32Array);
      }
      if (rate === null) {
        this.#pending = addUp(this.#pending, fresh);
        return { lossSum, gradientNorm: null };
      }
      const gradients = this.#pending === null ? fresh : addUp(this.#pending, fresh);
      const norm = this.#update(gradients, rate);
      this.#pending?.forEach((gradient) => gradient.fill(0));
      return { lossSum, gradientNorm: norm };
    } finally {
      for (const tensor of Object.values(outputs)) tensor.dispose();
    }
  }

  /** Frees what the last run left; its answer has been sent by now. */
  #collect(): void {
    if (this.#spec.spareMemory) this.#garbage.add(this.#spent);
    this.#spent = 0;
  }

  async #gradients(): Promise<InferenceSession> {
    if (this.#spec.spareMemory) {
      await this.#evaluationSession?.release();
      this.#evaluationSession = null;
    }
    return (this.#gradientSession ??= await createSession({
      ...this.#spec.session,
      modelPath: this.#spec.gradientPath,
    }));
  }

  async #evaluation(): Promise<InferenceSession> {
    if (this.#spec.spareMemory) {
      await this.#gradientSession?.release();
      this.#gradientSession = null;
    }
    return (this.#evaluationSession ??= await createSession({
      ...this.#spec.session,
      modelPath: this.#spec.evaluationPath,
    }));
  }

  /** Leaves the parameters as they are when the gradient is not finite. */
  #update(gradients: ReadonlyMap<string, Float32Array>, rate: number): number {
    const norm = gradientNorm([...gradients.values()]);
    if (!Number.isFinite(norm)) return norm;
    const factor = clipFactor(norm, this.#spec.optimizer.clipNorm);
    this.#updates += 1;
    for (const [name, gradient] of gradients) {
      const parameter = this.#parameters.get(name);
      if (parameter) updateParameter(parameter, gradient, this.#spec.optimizer, rate, this.#updates, factor);
    }
    return norm;
  }

  async evaluate(feeds: Feeds): Promise<EvaluationResult> {
    this.#collect();
    const session = await this.#evaluation();
    const data = await this.#withTarget(feeds);
    const outputs = await runSession(session, { ...data, ...this.#tensors });
    this.#spent = bytesOfValues(feeds);
    const { loss, correct } = this.#spec;
    const result = {
      lossSum: numberOf(outputs[loss]),
      correct: correct === null ? null : numberOf(outputs[correct]),
    };
    for (const tensor of Object.values(outputs)) tensor.dispose();
    return result;
  }

  save(path: string, meta: string, withMoments: boolean): void {
    const tensors: StateTensor[] = [];
    for (const [name, { dims, value, moment1, moment2 }] of this.#parameters) {
      tensors.push({ name, dims: [...dims], part: 'value', data: value });
      if (!withMoments) continue;
      tensors.push({ name, dims: [...dims], part: 'moment1', data: moment1 });
      if (moment2.length > 0) tensors.push({ name, dims: [...dims], part: 'moment2', data: moment2 });
    }
    writeTrainingState(path, { updates: this.#updates, meta, tensors });
  }

  async release(): Promise<void> {
    await this.#gradientSession?.release();
    await this.#evaluationSession?.release();
    await this.#teacherSession?.release();
  }

  /** The data as tensors; with a teacher, its answer to them is the target. */
  async #withTarget(feeds: Feeds): Promise<Record<string, Tensor>> {
    const data = await toTensors(feeds);
    const { teacher, target, session } = this.#spec;
    if (!teacher || data[target]) return data;
    this.#teacherSession ??= await createSession({ ...session, modelPath: teacher.modelPath });
    const answer = (await runSession(this.#teacherSession, data, [teacher.output]))[teacher.output];
    if (!answer) throw new SnugError('E_INTERNAL', `The teacher gave no "${teacher.output}".`);
    return { ...data, [target]: answer };
  }
}

function numberOf(tensor: Tensor | undefined): number {
  return Number((tensor?.data as Float32Array | undefined)?.[0] ?? NaN);
}

/** Adds `fresh` to `sums` in place; the first ones are copied, because a run's outputs are given back after it. */
function addUp(
  sums: Map<string, Float32Array> | null,
  fresh: ReadonlyMap<string, Float32Array>,
): Map<string, Float32Array> {
  if (sums === null) return new Map([...fresh].map(([name, values]) => [name, values.slice()]));
  for (const [name, values] of fresh) {
    const sum = sums.get(name);
    if (sum) for (let i = 0; i < sum.length; i++) sum[i] = (sum[i] as number) + (values[i] as number);
  }
  return sums;
}
