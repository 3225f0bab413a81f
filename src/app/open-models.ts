import { randomUUID } from 'node:crypto';
import path from 'node:path';
import type { OpenModel } from '../contract/api.js';
import { SnugError } from '../contract/errors.js';
import type { ModelSummary } from '../contract/types.js';
import type { EngineClient } from './engine-client.js';

/** Open models keep an engine process each; older ones are let go. */
const maxOpenModels = 3;

export interface HeldModel {
  path: string;
  summary: ModelSummary;
  dataPath: string | null;
  /** Right classes of the samples. */
  labelsPath: string | null;
  data: OpenModel['data'];
  /** Holds the structure of the model and plans for it. */
  engine: EngineClient;
}

/** The models a door has open, each with its engine process. */
export class OpenModels {
  readonly #models = new Map<string, HeldModel>();

  constructor(
    private readonly options: {
      startEngine: () => EngineClient;
      /** Told the id of a model that is let go. */
      onClose: (modelId: string) => void;
    },
  ) {}

  async open(modelPath: string): Promise<OpenModel> {
    const engine = this.options.startEngine();
    try {
      const summary = await engine.ask({ kind: 'open', path: modelPath });
      const modelId = randomUUID();
      this.#models.set(modelId, { path: modelPath, summary, dataPath: null, labelsPath: null, data: null, engine });
      for (const [id, model] of this.#models) {
        if (this.#models.size <= maxOpenModels) break;
        model.engine.kill();
        this.options.onClose(id);
        this.#models.delete(id);
      }
      return { modelId, summary, data: null };
    } catch (error) {
      engine.kill();
      throw error;
    }
  }

  /** @throws SnugError E_NOT_FOUND for a model that is not open any more */
  get(modelId: string): HeldModel {
    const model = this.#models.get(modelId);
    if (model) return model;
    throw new SnugError('E_NOT_FOUND', 'This model is no longer open.', { action: 'Open the model again.' });
  }

  async attachData(modelId: string, dataPath: string): Promise<OpenModel> {
    const model = this.get(modelId);
    model.data = await model.engine.ask({ kind: 'data', path: dataPath });
    model.dataPath = dataPath;
    model.labelsPath = null;
    return { modelId, summary: model.summary, data: model.data };
  }

  /** @throws SnugError E_USAGE without samples, E_DATA_SHAPE unless there is one class for each of them */
  async attachLabels(modelId: string, labelsPath: string): Promise<OpenModel> {
    const model = this.get(modelId);
    if (model.data === null) {
      throw new SnugError('E_USAGE', 'Labels say what is right for samples, and there are none.', {
        action: 'Attach the samples first.',
      });
    }
    await model.engine.ask({ kind: 'labels', path: labelsPath });
    model.labelsPath = labelsPath;
    model.data = { ...model.data, labels: path.basename(labelsPath) };
    return { modelId, summary: model.summary, data: model.data };
  }

  close(): void {
    for (const model of this.#models.values()) model.engine.kill();
    this.#models.clear();
  }
}
