import path from 'node:path';
import { SnugError } from '../contract/errors.js';
import type { InterruptedTraining, TrainingChoices, TrainingPlan, TrainingSetup } from '../contract/training.js';
import type { Provider } from '../contract/types.js';
import type { Dataset } from '../runtime/dataset-types.js';
import { NpyArray, openSource } from '../runtime/npy.js';
import { SampleSource } from '../train/samples.js';
import { readCheckpoint } from '../train/checkpoint.js';
import { heldOutCount } from '../train/sample-order.js';
import { openData, openModel, type OpenedModel } from './open.js';
import { chooseMicroBatch, nextTokenInput } from './train.js';
import { settingsOf } from './training-settings.js';

/** Files of a training on this computer. */
export interface TrainingPaths {
  data: string | null;
  labels: string | null;
  teacher: string | null;
}

export interface TrainingPlanRequest {
  files: TrainingPaths;
  choices: TrainingChoices;
  provider: Provider;
  budgetBytes: number;
  dims: Record<string, number>;
}

/** What is known of a training's files without running anything; keeps the data set and the teacher last looked at. */
export class TrainingFiles {
  #data: { key: string; dataset: Dataset; source: SampleSource } | null = null;
  #teacher: OpenedModel | null = null;

  constructor(private readonly opened: OpenedModel) {}

  /** @throws SnugError of reading a file; E_DATA_SHAPE when there is not one label for each sample */
  async look(files: TrainingPaths, checkpoint: string | null): Promise<TrainingLook> {
    const dataset = files.data === null ? null : (await this.#open(files.data, {})).dataset;
    const labels = files.labels === null ? null : await lookAtLabels(files.labels);
    if (dataset && labels && labels.rows !== dataset.samples) {
      throw new SnugError('E_DATA_SHAPE', `There are ${labels.rows} labels for ${dataset.samples} samples.`, {
        action: 'Choose a .npy file with one label for each sample, in the same order.',
        params: { rows: labels.rows, samples: dataset.samples },
      });
    }
    if (files.teacher !== null) this.#teachBy(files.teacher);
    return {
      data: dataset && { name: dataset.name, samples: dataset.samples },
      labels,
      teacher: files.teacher === null ? null : { name: path.basename(files.teacher) },
      nextToken: dataset !== null && (await nextTokenInput(this.opened, dataset)) !== null,
      progress: checkpoint === null ? null : readCheckpoint(checkpoint),
    };
  }

  /** @throws SnugError E_USAGE without data, and of preparing the training */
  async plan({ files, choices, provider, budgetBytes, dims }: TrainingPlanRequest): Promise<TrainingPlan> {
    if (files.data === null) {
      throw new SnugError('E_USAGE', 'A training needs samples.', { action: 'Add samples first.' });
    }
    const { dataset, source } = await this.#open(files.data, dims);
    const settings = settingsOf(choices);
    const { loss } = choices;
    const teaches = loss === 'distill' || (loss === 'mse' && files.labels === null && files.teacher !== null);
    const teacher = teaches ? (files.teacher === null ? this.opened : this.#teachBy(files.teacher)).model : undefined;
    const { prepared, memory, fits } = chooseMicroBatch(
      { opened: this.opened, settings, microBatch: null, budgetBytes, provider },
      source.inputDims,
      teacher,
    );
    const heldOutSamples = heldOutCount(dataset.samples, settings.validation);
    const trainingSamples = dataset.samples - heldOutSamples;
    const stepsPerEpoch = Math.ceil(trainingSamples / settings.batch);
    return {
      provider,
      trainingSamples,
      heldOutSamples,
      microBatch: prepared.settings.microBatch,
      steps: stepsPerEpoch * settings.epochs,
      stepsPerEpoch,
      weights: prepared.weights.length,
      parameters: prepared.graphs.parameters.reduce(
        (sum, { dims: sizes }) => sum + sizes.reduce((a, b) => a * b, 1),
        0,
      ),
      estimate: memory.run,
      stateBytes: memory.peakBytes - memory.run.peakBytes,
      peakBytes: memory.peakBytes,
      fits,
    };
  }

  #teachBy(file: string): OpenedModel {
    if (this.#teacher?.path !== path.resolve(file)) this.#teacher = openModel(file);
    return this.#teacher;
  }

  async #open(file: string, dims: Record<string, number>): Promise<{ dataset: Dataset; source: SampleSource }> {
    const key = JSON.stringify([file, dims]);
    if (this.#data?.key !== key) {
      const dataset = await openData(file, this.opened, dims);
      await this.#data?.dataset.close();
      this.#data = { key, dataset, source: await SampleSource.open(dataset) };
    }
    return this.#data;
  }
}

export interface TrainingLook extends Omit<TrainingSetup, 'interrupted'> {
  /** Of the checkpoint asked about. */
  progress: Pick<InterruptedTraining, 'step' | 'before' | 'best'> | null;
}

async function lookAtLabels(file: string): Promise<NonNullable<TrainingSetup['labels']>> {
  const name = path.basename(file);
  const array = await NpyArray.open(await openSource(file), name);
  try {
    return { name, rows: array.rows, rowDims: [...array.rowDims] };
  } finally {
    await array.close();
  }
}
