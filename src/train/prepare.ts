import { SnugError } from '../contract/errors.js';
import type { Schedule } from '../contract/training.js';
import { cloneModel } from '../onnx/graph.js';
import type { Model } from '../onnx/model.js';
import { computedData, elementCount, encodeFloats, readFloat32 } from '../onnx/tensor.js';
import type { OptimizerSettings } from '../runtime/training-types.js';
import type { StateTensor } from '../runtime/training-state.js';
import { adapterNames, adapterShape, mergeAdapter, type Adapter } from './adapters.js';
import { randomWeight } from './initialize.js';
import type { LossSettings } from './losses.js';
import { mixSeed, normalNumbers } from './random.js';
import { chooseTrainable, trainableWeights, type TrainableChoice, type TrainableWeight } from './trainable.js';
import type { InputDims } from './forward.js';
import { buildTrainingGraphs, gainName, type TrainingGraphs, wideName } from './training-graph.js';

/** Everything that decides the result of a training, besides the model and the data. */
export interface TrainSettings {
  loss: LossSettings;
  /** Output the loss is taken of; the first one when left out. */
  output?: string;
  trainable: TrainableChoice;
  /** Trains adapters of this rank beside the chosen matrices instead of the matrices; null = the weights themselves. */
  adapterRank: number | null;
  optimizer: OptimizerSettings;
  rate: number;
  schedule: Schedule;
  /** Updates over which the rate rises. */
  warmUp: number;
  /** Updates in all; `epochs` counts when left out. */
  steps?: number;
  epochs: number;
  /** Samples in one update. */
  batch: number;
  /** Samples in one run; their gradients are added up to those of the batch. */
  microBatch: number;
  /** Share of the samples that is never trained on, 0 … 0.9. */
  validation: number;
  /** Stops after so many epochs without a smaller validation loss; null = never. */
  patience: number | null;
  seed: number;
  /** Begins with random weights instead of the model's own. */
  fromScratch: boolean;
}

/** A model ready to be trained. */
export interface PreparedTraining {
  model: Model;
  graphs: TrainingGraphs;
  settings: TrainSettings;
  /** Weights that change. */
  weights: TrainableWeight[];
  adapters: Adapter[];
}

/**
 * Chooses the weights and builds the graphs; nothing is read but the weights' structure.
 * @throws SnugError E_NOT_SUPPORTED, E_USAGE, E_DATA_SHAPE
 */
export function prepareTraining(model: Model, inputDims: InputDims, settings: TrainSettings): PreparedTraining {
  const chosen = chooseTrainable(trainableWeights(model), settings.trainable);
  const rank = settings.adapterRank;
  const adaptable = rank === null ? [] : chosen.filter((weight) => weight.adaptable);
  if (rank !== null && adaptable.length === 0) {
    throw new SnugError('E_NOT_SUPPORTED', 'None of the chosen weights can take a low-rank adapter.', {
      action: 'Choose weights that MatMul, Gemm or a Conv without groups multiplies by, or train without --lora.',
    });
  }
  const adapters = adaptable.map(({ name }) => {
    const { inputs, outputs } = adapterShape(model, name);
    const most = Math.min(rank ?? 1, inputs, outputs);
    // The usual strength: a change of rank r counts twice as much as its product.
    return { weight: name, rank: most, alpha: 2 * most };
  });
  const graphs = buildTrainingGraphs(model, {
    inputDims,
    ...(settings.output === undefined ? {} : { output: settings.output }),
    loss: settings.loss,
    parameters: rank === null ? chosen.map(({ name }) => name) : [],
    // Scales of codes are so small that a step that suits other weights would be too long for them.
    relative: new Set(chosen.filter(isRelative).map(({ name }) => name)),
    adapters,
  });
  const trained = new Set(graphs.parameters.map(({ name }) => name));
  return {
    model,
    graphs,
    settings,
    weights: rank === null ? chosen.filter(({ name }) => fedNames(name).some((fed) => trained.has(fed))) : adaptable,
    adapters,
  };
}

const isRelative = ({ role }: TrainableWeight): boolean => role === 'quantization-scale';

/** Names under which a weight may be fed. */
const fedNames = (name: string): string[] => [name, wideName(name), gainName(name)];

/** Values the parameters start from. */
export function initialValues({ model, graphs, settings, weights, adapters }: PreparedTraining): StateTensor[] {
  const { seed, fromScratch } = settings;
  return graphs.parameters.map(({ name, dims }, position) => {
    const adapter = adapters.find(({ weight }) => name.startsWith(`${weight}/adapter_`));
    if (adapter) {
      const data = new Float32Array(dims.reduce((a, b) => a * b, 1));
      // A is random and B zero, so that the model starts as it is (LoRA, section 4.1).
      if (name === adapterNames(adapter.weight).down) {
        const normal = normalNumbers(mixSeed(seed, position));
        const deviation = 1 / Math.sqrt(dims[0] ?? 1);
        data.forEach((_, i) => (data[i] = normal() * deviation));
      }
      return { name, dims, part: 'value', data };
    }
    const weight = weights.find((candidate) => fedNames(candidate.name).includes(name));
    const tensor = weight && model.graph.initializers.get(weight.name);
    if (!weight || !tensor) throw new SnugError('E_INTERNAL', `The weight "${name}" is missing.`);
    // Codes keep the scale they were made with.
    if (isRelative(weight)) return { name, dims, part: 'value', data: new Float32Array(elementCount(dims)).fill(1) };
    const data = fromScratch ? randomWeight(weight, seed, position) : readFloat32(tensor);
    return { name, dims, part: 'value', data };
  });
}

/** The model with trained values in place of its own, in its own element types; adapters are added to their weights. */
export function trainedModel({ model, adapters, weights }: PreparedTraining, values: readonly StateTensor[]): Model {
  const result = cloneModel(model);
  const valueOf = (name: string): Float32Array | null =>
    values.find((tensor) => tensor.part === 'value' && tensor.name === name)?.data ?? null;
  for (const { name } of weights) {
    const tensor = result.graph.initializers.get(name);
    if (!tensor) continue;
    const adapter = adapters.find(({ weight }) => weight === name);
    const original = tensor.data;
    const { dataType } = tensor;
    let make: (() => Float32Array) | null = null;
    if (adapter) {
      const names = adapterNames(name);
      const [down, up] = [valueOf(names.down), valueOf(names.up)];
      const shape = adapterShape(model, name);
      if (down && up) make = () => mergeAdapter(readFloat32({ ...tensor, data: original }), shape, down, up, adapter);
    } else {
      const trained = valueOf(name) ?? valueOf(wideName(name));
      const gains = valueOf(gainName(name));
      if (trained) make = () => trained;
      if (gains) make = () => readFloat32({ ...tensor, data: original }).map((value, i) => value * (gains[i] ?? 1));
    }
    if (!make) continue;
    const produce = make;
    tensor.data = computedData(original.byteLength, () => encodeFloats(produce(), dataType));
  }
  return result;
}
