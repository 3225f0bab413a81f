import { Option, type Command } from 'commander';
import { existsSync } from 'node:fs';
import { openData, openModel } from '../../app/open.js';
import { trainFile, type TrainFileResult } from '../../app/train.js';
import { usualOptimizer } from '../../app/training-settings.js';
import { SnugError } from '../../contract/errors.js';
import {
  losses,
  optimizers,
  schedules,
  type LossKind,
  type OptimizerKind,
  type Schedule,
  usualRate,
} from '../../contract/training.js';
import { checkpointFile } from '../../fit/workspace.js';
import type { TrainSettings } from '../../train/prepare.js';
import type { TrainQuality } from '../../train/train.js';
import { collect, parseProvider, parseShape, withContext } from '../context.js';
import { formatBytes, parseBytes, parseNumber, percent } from '../format.js';

interface TrainOptions {
  out: string;
  loss: LossKind;
  teacher?: string;
  temperature: string;
  output?: string;
  optimizer: OptimizerKind;
  lr?: string;
  schedule: Schedule;
  warmUp: string;
  weightDecay: string;
  clip?: string;
  epochs: string;
  steps?: string;
  batch: string;
  microBatch: string;
  budget?: string;
  trainable: string[];
  lora?: string;
  validation: string;
  patience?: string;
  seed: string;
  fromScratch?: boolean;
  resume?: boolean;
  provider: string;
  dim?: string[];
  force?: boolean;
}

const whole = (text: string, option: string, least: number, most = 1e9): number =>
  parseNumber(text, option, least, most, true);

function settingsOf(options: TrainOptions): Omit<TrainSettings, 'microBatch'> {
  const [first] = options.trainable;
  const trainable =
    options.trainable.length === 1 && (first === 'all' || first === 'biases-and-norms') ? first : options.trainable;
  return {
    loss: { kind: options.loss, temperature: parseNumber(options.temperature, '--temperature', 0.01, 1000) },
    ...(options.output === undefined ? {} : { output: options.output }),
    trainable: trainable.length === 0 ? 'all' : trainable,
    adapterRank: options.lora === undefined ? null : whole(options.lora, '--lora', 1, 4096),
    optimizer: {
      ...usualOptimizer,
      kind: options.optimizer,
      weightDecay: parseNumber(options.weightDecay, '--weight-decay', 0, 10),
      clipNorm: options.clip === undefined ? null : parseNumber(options.clip, '--clip', 1e-9, 1e9),
    },
    rate: parseNumber(options.lr ?? String(usualRate[options.optimizer]), '--lr', 1e-12, 1e3),
    schedule: options.schedule,
    warmUp: whole(options.warmUp, '--warm-up', 0),
    ...(options.steps === undefined ? {} : { steps: whole(options.steps, '--steps', 1) }),
    epochs: whole(options.epochs, '--epochs', 1),
    batch: whole(options.batch, '--batch', 1, 1e6),
    validation: parseNumber(options.validation, '--validation', 0, 0.9),
    patience: options.patience === undefined ? null : whole(options.patience, '--patience', 1),
    seed: whole(options.seed, '--seed', 0, 2 ** 32 - 1),
    fromScratch: options.fromScratch ?? false,
  };
}

const quality = ({ loss, accuracy }: TrainQuality): string =>
  `loss ${loss.toPrecision(4)}${accuracy === null ? '' : ` (${percent(accuracy)} right)`}`;

function report(result: TrainFileResult): string {
  const { steps, before, after, bestStep, ended, seconds, memory, microBatch } = result;
  return [
    bestStep > 0
      ? `${quality(before)} → ${quality(after)} after ${bestStep} of ${steps.length} steps (${ended})`
      : `Nothing got better than ${quality(before)} in ${steps.length} steps (${ended}): the file holds the weights it began with.`,
    `${result.parameters.toLocaleString('en')} numbers in ${result.weights.length} weights, ${seconds.toFixed(1)} s, micro-batches of ${microBatch}, estimated peak ${formatBytes(memory.peakBytes)}`,
    `Written: ${result.output.path}`,
    ...(ended === 'stopped' ? ['The same command with --resume goes on.'] : []),
  ].join('\n');
}

/** A training that silently began anew would take hours to be noticed. */
function requireInterrupted(outputPath: string): void {
  const checkpoint = checkpointFile(outputPath);
  if (existsSync(checkpoint)) return;
  throw new SnugError('E_NOT_FOUND', `There is no interrupted training to go on with: ${checkpoint} does not exist.`, {
    action: 'Give the same --out as before, or leave out --resume to start anew.',
    params: { path: checkpoint },
  });
}

export function addTrain(program: Command): void {
  program
    .command('train')
    .argument('<model>', '.onnx file, or a folder with one')
    .argument('<data>', 'data set: .npy, .npz, .txt or a folder of images; the first axis counts samples')
    .argument('[labels]', '.npy with an answer for each sample; text learns the next token without')
    .description(
      'train or fine-tune in micro-batches that fit; writes a new file; Ctrl+C keeps the best weights so far',
    )
    .requiredOption('-o, --out <file>', 'where to write the result')
    .addOption(new Option('--loss <name>', 'what to make small').choices(losses).default('cross-entropy'))
    .option('--teacher <model>', 'model to learn from with --loss distill or mse (default: the model itself)')
    .option('--temperature <t>', 'softens the answers of --loss distill', '1')
    .option('--output <name>', 'output the loss is taken of; default: the first')
    .addOption(new Option('--optimizer <name>', 'how weights follow gradients').choices(optimizers).default('adamw'))
    .option('--lr <rate>', 'learning rate (default: 0.001 for adamw, 0.01 for sgd)')
    .addOption(new Option('--schedule <name>', 'how the rate goes on').choices(schedules).default('cosine'))
    .option('--warm-up <steps>', 'steps over which the rate rises', '0')
    .option('--weight-decay <d>', 'pulls matrices to zero', '0.01')
    .option('--clip <norm>', 'longest gradient')
    .option('--epochs <n>', 'times through the data', '10')
    .option('--steps <n>', 'updates in all, instead of --epochs')
    .option('--batch <n>', 'samples in one update', '32')
    .option('--micro-batch <n>', 'samples in one run, or auto: what fits the budget', 'auto')
    .option('--budget <size>', 'memory the training may use, like 4GB (default: what an update takes at once)')
    .addOption(
      new Option('--trainable <what>', 'all, biases-and-norms, or a name with * (may be repeated)')
        .argParser(collect)
        .default([], 'all'),
    )
    .option('--lora <rank>', 'train low-rank adapters and merge them')
    .option('--validation <share>', 'share of the samples held out to judge by', '0.1')
    .option('--patience <epochs>', 'stop when the held-out loss has not fallen for so long')
    .option('--seed <n>', 'decides split, order and random weights', '0')
    .option('--from-scratch', 'start with random weights')
    .option('--resume', 'go on with a training that was stopped or killed')
    .option('--provider <name>', 'execution provider', 'cpu')
    .option('--dim <name=n>', 'value of a named dimension; may be repeated', collect)
    .option('--force', 'replace the output file, or an interrupted training of it, if there is one')
    .action((target: string, data: string, labels: string | undefined, options: TrainOptions, command: Command) =>
      withContext(command, async (context) => {
        if (options.resume === true) requireInterrupted(options.out);
        const opened = openModel(target);
        const { dims } = parseShape({ ...(options.dim ? { dim: options.dim } : {}) }, opened);
        const settings = settingsOf(options);
        if (options.lora !== undefined && options.fromScratch) {
          throw new SnugError('E_USAGE', 'Adapters change a trained model; random weights have nothing to adapt.', {
            action: 'Give either --lora or --from-scratch.',
          });
        }
        if (options.loss === 'mse' && labels !== undefined && options.teacher !== undefined) {
          throw new SnugError('E_USAGE', 'The loss "mse" compares with targets or with a teacher, not with both.', {
            action: 'Leave out the file of targets, or --teacher.',
          });
        }
        const dataset = await openData(data, opened, dims);
        try {
          const result = await trainFile({
            opened,
            outputPath: options.out,
            dataset,
            dataPath: data,
            labels: labels ?? null,
            teacher: options.teacher ?? null,
            settings,
            microBatch: options.microBatch === 'auto' ? null : whole(options.microBatch, '--micro-batch', 1, 1e6),
            budgetBytes: options.budget ? parseBytes(options.budget) : null,
            dims,
            provider: parseProvider(options.provider),
            runtime: context.runtime,
            overwrite: options.force ?? false,
            resume: options.resume ?? false,
            onProgress: ({ step, totalSteps, loss, best }) =>
              context.progress({
                phase: 'training',
                done: step,
                total: totalSteps,
                unit: 'steps',
                item: `loss ${loss.toPrecision(4)}, best ${quality(best)}`,
              }),
            signal: context.signal,
          });
          context.print(result, report(result));
        } finally {
          await dataset.close();
        }
      }),
    );
}
