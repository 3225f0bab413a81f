import { SnugError } from '../contract/errors.js';
import type { PruneCurve } from '../contract/types.js';
import type { EngineClient } from './engine-client.js';

export interface PruneMeasuringOptions {
  /** An engine process of its own, so that plans are answered meanwhile. */
  startEngine: (onCurve: (curve: PruneCurve) => void) => EngineClient;
  onCurve: (modelId: string, curve: PruneCurve) => void;
}

interface Measured {
  curve: PruneCurve | null;
  dataPath: string;
  engine: EngineClient | null;
}

/** Measures damage curves in the background, one at a time, and keeps them by model for as long as it is open. */
export class PruneMeasuring {
  readonly #byModel = new Map<string, Measured>();

  constructor(private readonly options: PruneMeasuringOptions) {}

  get running(): boolean {
    return [...this.#byModel.values()].some(({ engine }) => engine !== null);
  }

  /** What is measured for a model and these samples; null when nothing is. */
  curveOf(modelId: string, dataPath: string | null): PruneCurve | null {
    const measured = this.#byModel.get(modelId);
    return measured !== undefined && measured.dataPath === dataPath ? measured.curve : null;
  }

  /** Begins unless it was measured, or is being measured, with these samples. A measurement of another model ends. */
  start(modelId: string, modelPath: string, dataPath: string): void {
    const known = this.#byModel.get(modelId);
    const state = known?.dataPath === dataPath ? known.curve?.state : undefined;
    if (state === 'measuring' || state === 'done') return;
    for (const other of this.#byModel.keys()) this.stop(other);
    const engine = this.options.startEngine((curve) => this.#take(modelId, measured, curve));
    const measured: Measured = { curve: null, dataPath, engine };
    this.#byModel.set(modelId, measured);
    this.#take(modelId, measured, { points: [], samples: 0, state: 'measuring', total: 0 });
    engine
      .ask({ kind: 'prune-curve', path: modelPath, dataPath })
      .then(
        (curve) => this.#take(modelId, measured, curve),
        (error: unknown) =>
          this.#end(modelId, measured, SnugError.from(error).code === 'E_CANCELLED' ? 'stopped' : 'failed'),
      )
      .finally(() => {
        measured.engine = null;
        engine.kill();
      });
  }

  /** Ends what is under way for a model; the ratios measured so far stay. */
  stop(modelId: string): void {
    const measured = this.#byModel.get(modelId);
    if (measured === undefined || measured.engine === null) return;
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

  #take(modelId: string, measured: Measured, curve: PruneCurve): void {
    // After a stop, or when other samples were attached meanwhile, nobody waits for it.
    if (measured.engine === null || this.#byModel.get(modelId) !== measured) return;
    measured.curve = curve;
    this.options.onCurve(modelId, curve);
  }

  #end(modelId: string, measured: Measured, state: 'stopped' | 'failed'): void {
    if (measured.curve !== null) this.#take(modelId, measured, { ...measured.curve, state });
    measured.engine = null;
  }
}
