import { SnugError } from '../contract/errors.js';
import type { EngineClient } from './engine-client.js';

/** Something that is measured bit by bit. */
export interface Measurable {
  state: 'measuring' | 'done' | 'stopped' | 'failed';
}

export interface MeasuringOptions<T extends Measurable> {
  /** An engine process of its own, so that plans are answered meanwhile. */
  startEngine: (onPart: (part: T) => void) => EngineClient;
  onPart: (modelId: string, part: T) => void;
}

interface Measured<T> {
  part: T;
  /** What it was measured with. */
  basis: string;
  engine: EngineClient | null;
}

/** Measures in the background, one model at a time, and keeps what was found for as long as the model is open. */
export class Measuring<T extends Measurable> {
  readonly #byModel = new Map<string, Measured<T>>();

  constructor(private readonly options: MeasuringOptions<T>) {}

  get running(): boolean {
    return [...this.#byModel.values()].some(({ engine }) => engine !== null);
  }

  /** What is measured for a model on this basis (its samples, its provider); null when nothing is. */
  partOf(modelId: string, basis: string): T | null {
    const measured = this.#byModel.get(modelId);
    return measured?.basis === basis ? measured.part : null;
  }

  /** Begins unless it was measured, or is being measured, on this basis. A measurement of another model ends. */
  start(modelId: string, basis: string, empty: T, ask: (engine: EngineClient) => Promise<T>): void {
    const state = this.partOf(modelId, basis)?.state;
    if (state === 'measuring' || state === 'done') return;
    this.stopAll();
    const engine = this.options.startEngine((part) => this.#take(modelId, measured, part));
    const measured: Measured<T> = { part: empty, basis, engine };
    this.#byModel.set(modelId, measured);
    this.#take(modelId, measured, empty);
    ask(engine)
      .then(
        (part) => this.#take(modelId, measured, part),
        (error: unknown) =>
          this.#end(modelId, measured, SnugError.from(error).code === 'E_CANCELLED' ? 'stopped' : 'failed'),
      )
      .finally(() => {
        measured.engine = null;
        engine.kill();
      });
  }

  /** Ends what is under way for a model; what was measured so far stays. */
  stop(modelId: string): void {
    const measured = this.#byModel.get(modelId);
    if (!measured?.engine) return;
    const { engine } = measured;
    this.#end(modelId, measured, 'stopped');
    engine.kill();
  }

  stopAll(): void {
    for (const modelId of this.#byModel.keys()) this.stop(modelId);
  }

  forget(modelId: string): void {
    this.stop(modelId);
    this.#byModel.delete(modelId);
  }

  #take(modelId: string, measured: Measured<T>, part: T): void {
    // After a stop, or when other samples were attached meanwhile, nobody waits for it.
    if (measured.engine === null || this.#byModel.get(modelId) !== measured) return;
    measured.part = part;
    this.options.onPart(modelId, part);
  }

  #end(modelId: string, measured: Measured<T>, state: 'stopped' | 'failed'): void {
    this.#take(modelId, measured, { ...measured.part, state });
    measured.engine = null;
  }
}
