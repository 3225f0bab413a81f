import { SnugError } from '../contract/errors.js';
import { cloneModel, intAttribute, makeNode, removeDeadNodesAndInitializers } from '../onnx/graph.js';
import { DataType, type Model, type Node, type ValueInfo } from '../onnx/model.js';
import { topologicalOrder } from '../onnx/topology.js';
import { applyAdapters, type Adapter } from './adapters.js';
import { decompose } from './decompose.js';
import { unpackFrozenWeights } from './decompositions/quantized.js';
import { appendGradients } from './differentiate.js';
import { float32Output, forwardGraph, type InputDims } from './forward.js';
import { GraphBuilder } from './graph-builder.js';
import { appendLoss, type LossSettings } from './losses.js';

export interface TrainingGraphOptions {
  inputDims: InputDims;
  /** Output the loss is taken of; the first one when left out. */
  output?: string;
  loss: LossSettings;
  /** Names of the initializers to train. */
  parameters: readonly string[];
  /** Those of them that are trained by what multiplies each of their numbers: 1 to begin with. */
  relative?: ReadonlySet<string>;
  /** Low-rank adapters to train besides. */
  adapters?: readonly Adapter[];
}

/** A weight that is fed instead of stored. Always float32: narrower weights are cast where they are used. */
export interface Parameter {
  name: string;
  dims: number[];
}

/** The two graphs a training process runs. */
export interface TrainingGraphs {
  /** Data, target, weight and parameters in; summed loss and one gradient for each parameter out. */
  gradient: Model;
  /** Data, target and parameters in; summed loss (and right answers) out. */
  evaluation: Model;
  parameters: Parameter[];
  /** Output of `gradient` by parameter. */
  gradientOutputs: Map<string, string>;
  /** Inputs that are data of the model's own. */
  dataInputs: string[];
  target: ValueInfo;
  weight: string;
  loss: string;
  correct: string | null;
  itemsPerSample: number;
}

/**
 * Makes the graphs of one training step: the model with its trained weights as inputs, the loss, and its gradient
 * as ordinary operators. The model given is not changed.
 * @throws SnugError E_NOT_SUPPORTED for operators without a rule and shapes that cannot be worked out; E_USAGE for
 *   an output or a parameter that does not exist
 */
export function buildTrainingGraphs(model: Model, options: TrainingGraphOptions): TrainingGraphs {
  const base = forwardGraph(model, options);
  const output = float32Output(base);
  const parameters = [
    ...applyAdapters(base, options.adapters ?? []),
    ...options.parameters.map((name) => feedParameter(base, name, options.relative?.has(name) ?? false)),
  ];
  base.graph.nodes = topologicalOrder(base.graph);

  const wanted = parameters.map(({ name }) => name);
  const gradient = cloneModel(base);
  decompose(gradient, wanted);
  unpackFrozenWeights(gradient.graph);
  const builder = new GraphBuilder(gradient);
  const loss = appendLoss(builder, output, options.loss);
  const gradients = appendGradients(builder, new Map([[output, loss.gradient]]), wanted);
  const trained = parameters.filter(({ name }) => gradients.has(name));
  if (trained.length === 0) {
    throw new SnugError('E_USAGE', `No trained weight has an influence on the output "${output}".`, {
      action: 'Choose other weights (--trainable), or another output (--output).',
    });
  }
  const gradientOutputs = new Map<string, string>();
  const taken = new Set([...gradient.graph.inputs.map(({ name }) => name), loss.gradient]);
  finish(gradient, builder, [loss.target, loss.weight], [loss.sum]);
  for (const { name, dims } of trained) {
    const made = gradients.get(name) ?? '';
    // Two parameters may share one gradient; outputs need names of their own.
    const value = taken.has(made) ? builder.emit('Identity', [made]) : made;
    taken.add(value);
    gradientOutputs.set(name, value);
    gradient.graph.outputs.push({ name: value, dataType: DataType.FLOAT, dims: [...dims] });
  }
  removeDeadNodesAndInitializers(gradient.graph);

  // What is measured are the model's own operators; but block-quantized ones take scales that are fed for others
  // without a word (onnxruntime 1.30, MatMulNBits with accuracy level 4 or 8 bits).
  const evaluation = cloneModel(base);
  decompose(
    evaluation,
    wanted,
    ({ opType, inputs }) => blockQuantized.has(opType) && !evaluation.graph.initializers.has(inputs[2] ?? ''),
  );
  const checker = new GraphBuilder(evaluation);
  const check = appendLoss(checker, output, options.loss);
  finish(evaluation, checker, [check.target], check.correct ? [check.sum, check.correct] : [check.sum]);
  removeDeadNodesAndInitializers(evaluation.graph);
  return {
    gradient,
    evaluation,
    parameters: trained,
    gradientOutputs,
    dataInputs: Object.keys(options.inputDims).filter((name) => base.graph.inputs.some((input) => input.name === name)),
    target: loss.target,
    weight: loss.weight.name,
    loss: loss.sum,
    correct: check.correct,
    itemsPerSample: loss.itemsPerSample,
  };
}

/** Operators over codes in blocks; their scales are input 2. */
const blockQuantized = new Set(['MatMulNBits', 'GatherBlockQuantized']);

function finish(model: Model, builder: GraphBuilder, inputs: ValueInfo[], outputs: string[]): void {
  model.graph.inputs.push(...inputs);
  model.graph.outputs = outputs.map((name) => ({ name, dataType: builder.dataType(name), dims: [] }));
}

/** Name under which the factors of a weight are fed that is trained relative to what it is. */
export const gainName = (weight: string): string => `${weight}/gain`;

/** Makes an initializer, or what it is multiplied by, an input of the graph. */
function feedParameter({ graph }: Model, name: string, relative: boolean): Parameter {
  const tensor = graph.initializers.get(name);
  if (!tensor) {
    throw new SnugError('E_USAGE', `The model has no weight "${name}" before the chosen output.`, {
      action: 'Look at the names of the weights with snug inspect.',
    });
  }
  const { dataType } = tensor;
  const dims = [...tensor.dims];
  graph.initializers.delete(name);
  if (relative) {
    const stored = `${name}/stored`;
    const fed = gainName(name);
    const castTo = (type: number, from: string, to: string): Node =>
      makeNode('Cast', [from], [to], { to: intAttribute(type) }, { name: to });
    graph.initializers.set(stored, { ...tensor, name: stored });
    graph.nodes.unshift(
      ...(dataType === DataType.FLOAT
        ? [makeNode('Mul', [stored, fed], [name], {}, { name: fed })]
        : [
            castTo(DataType.FLOAT, stored, `${stored}/float32`),
            makeNode('Mul', [`${stored}/float32`, fed], [`${name}/float32`], {}, { name: fed }),
            castTo(dataType, `${name}/float32`, name),
          ]),
    );
    graph.inputs.push({ name: fed, dataType: DataType.FLOAT, dims });
    return { name: fed, dims };
  }
  // Weights of another type are fed as float32 and cast, so that small steps are not rounded away.
  const fed = dataType === DataType.FLOAT ? name : wideName(name);
  if (fed !== name) {
    graph.nodes.unshift(makeNode('Cast', [fed], [name], { to: intAttribute(dataType) }, { name: fed }));
  }
  graph.inputs.push({ name: fed, dataType: DataType.FLOAT, dims });
  return { name: fed, dims };
}

/** Name under which a weight is fed that is not float32. */
export const wideName = (weight: string): string => `${weight}/float32`;
