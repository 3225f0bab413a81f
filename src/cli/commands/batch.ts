import { writeFileSync } from 'node:fs';
import type { Command } from 'commander';
import { streamDataset } from '../../app/batch.js';
import { openData, openModel, requireProvider } from '../../app/open.js';
import { SnugError } from '../../contract/errors.js';
import { checkOutput } from '../../fit/workspace.js';
import { normalizations, resizings, type ImageOptions } from '../../runtime/images.js';
import type { StreamOptions, StreamProgress } from '../../runtime/stream.js';
import type { ShapeOptions } from '../context.js';
import { collect, parseProvider, parseShape, withContext } from '../context.js';
import { formatBytes, parseBytes } from '../format.js';

interface BatchOptions extends ShapeOptions {
  out: string;
  budget?: string;
  provider: string;
  outputName?: string;
  allOutputs?: boolean;
  normalize?: string;
  resize?: string;
  restart?: boolean;
  force?: boolean;
}

export function addBatch(program: Command): void {
  program
    .command('batch')
    .argument('<model>', '.onnx file, or a folder with one')
    .argument('<data>', 'data set: .npy, .npz, .txt or a folder of images; the first axis counts samples')
    .description(
      'stream a data set through a model in batches that fit; halves the batch when memory runs out, and goes on where it was when started again',
    )
    .requiredOption('-o, --out <file>', 'where to write the answers (.npy; with --all-outputs a folder)')
    .option('--budget <size>', 'memory the model may use, like 4GB; what is free when left out')
    .option('--batch <n>', 'largest batch; else chosen from the estimate and from what runs show')
    .option('--dim <name=n>', 'value of a named dimension; may be repeated', collect)
    .option('--provider <name>', 'execution provider', 'cpu')
    .option('--output-name <name>', 'output of the model to keep; its first one when left out')
    .option('--all-outputs', 'keep all outputs, one .npy file each')
    .option('--normalize <how>', `numbers made of images: ${normalizations.join(', ')}`)
    .option('--resize <how>', `images of another shape: ${resizings.join(', ')} (default crop)`)
    .option('--restart', 'begin again instead of going on with unfinished work')
    .option('--force', 'replace the output file if it exists')
    .action((target: string, data: string, options: BatchOptions, command: Command) =>
      withContext(
        command,
        async ({ runtime, print, progress, signal }) => {
          if (!options.allOutputs && !options.out.toLowerCase().endsWith('.npy')) {
            throw new SnugError('E_USAGE', `Answers are written as .npy, and "${options.out}" is named otherwise.`, {
              action: 'Give a name that ends in .npy, or --all-outputs and a folder.',
            });
          }
          const provider = parseProvider(options.provider);
          const opened = openModel(target);
          const { batch, dims } = parseShape(options, opened);
          const images = imageOptions(options);
          const outputs = wantedOutputs(
            options,
            opened.summary.outputs.map(({ name }) => name),
          );
          checkOutput(options.out, [opened.path, data], options.force ?? false);
          await requireProvider(runtime, provider);
          const dataset = await openData(data, opened, dims, images);
          try {
            const namesFile = `${options.out}.names.txt`;
            if (dataset.sampleNames !== undefined) checkOutput(namesFile, [opened.path], options.force ?? false);
            const result = await streamDataset(runtime, opened, dataset, {
              provider,
              data,
              dims,
              batch,
              budgetBytes: options.budget === undefined ? undefined : parseBytes(options.budget),
              output: options.out,
              overwrite: options.force ?? false,
              outputs,
              settings: { ...images },
              restart: options.restart ?? false,
              onProgress: (state) =>
                progress({
                  phase: 'running',
                  done: state.samples,
                  total: state.total,
                  unit: 'samples',
                  item: pace(state),
                }),
              signal,
            });
            if (dataset.sampleNames !== undefined) {
              writeFileSync(namesFile, `${dataset.sampleNames.join('\n')}\n`);
            }
            const { resumedAt, halvings } = result;
            print(
              { ...result, output: options.out },
              [
                ...(resumedAt > 0 ? [`Went on at sample ${resumedAt}.`] : []),
                `${result.samples} samples in batches of ${result.batch}: ${result.samplesPerSecond.toFixed(0)} per second, peak ${formatBytes(result.peakBytes)}${halvings > 0 ? `, batch halved ${halvings} times` : ''}`,
                `Written: ${options.out}`,
                ...(dataset.sampleNames === undefined ? [] : [`The order of the images: ${namesFile}`]),
              ].join('\n'),
            );
          } finally {
            await dataset.close();
          }
        },
        'The same command goes on with what was finished.',
      ),
    );
}

function pace({ batch, samplesPerSecond, secondsLeft }: StreamProgress): string {
  const left = secondsLeft === null ? '' : `, ${duration(secondsLeft)} left`;
  return `batch ${batch}, ${samplesPerSecond.toFixed(samplesPerSecond < 10 ? 1 : 0)} per second${left}`;
}

function duration(seconds: number): string {
  if (seconds < 90) return `${Math.ceil(seconds)} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 90 ? `${minutes} min` : `${(minutes / 60).toFixed(1)} h`;
}

/** @throws SnugError `E_USAGE` */
function imageOptions(options: BatchOptions): ImageOptions {
  const pick = <T extends string>(text: string | undefined, known: readonly T[], name: string): T | undefined => {
    const found = known.find((item) => item === text);
    if (found !== undefined || text === undefined) return found;
    throw new SnugError('E_USAGE', `${name} ${text} is not known.`, { action: `Use one of: ${known.join(', ')}.` });
  };
  const normalization = pick(options.normalize, normalizations, '--normalize');
  const resizing = pick(options.resize, resizings, '--resize');
  return { ...(normalization ? { normalization } : {}), ...(resizing ? { resizing } : {}) };
}

/** @throws SnugError `E_USAGE` */
function wantedOutputs(options: BatchOptions, known: string[]): NonNullable<StreamOptions['outputs']> {
  const { outputName, allOutputs } = options;
  if (allOutputs && outputName !== undefined) {
    throw new SnugError('E_USAGE', '--all-outputs and --output-name contradict each other.', {
      action: 'Give one of them.',
    });
  }
  if (outputName === undefined) return allOutputs ? 'all' : 'first';
  if (known.includes(outputName)) return { name: outputName };
  throw new SnugError('E_USAGE', `The model has no output "${outputName}".`, {
    action: `It has: ${known.join(', ')}.`,
  });
}
