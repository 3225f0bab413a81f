import type { Command } from 'commander';
import { openData, openModel, requireProvider } from '../../app/open.js';
import { checkOutput } from '../../fit/workspace.js';
import { prepareEstimate } from '../../memory/estimate.js';
import { streamBatches } from '../../runtime/stream.js';
import type { ShapeOptions } from '../context.js';
import { collect, parseProvider, parseShape, withContext } from '../context.js';
import { formatBytes, parseBytes } from '../format.js';

interface BatchOptions extends ShapeOptions {
  out: string;
  budget?: string;
  provider: string;
  force?: boolean;
}

/** The largest power of two whose estimated peak is within the budget; 1 when even that is too much. */
function largestBatch(fits: (batch: number) => boolean, samples: number): number {
  let batch = 1;
  while (batch * 2 <= Math.min(samples, 1024) && fits(batch * 2)) batch *= 2;
  return batch;
}

export function addBatch(program: Command): void {
  program
    .command('batch')
    .argument('<model>', '.onnx file, or a folder with one')
    .argument('<data>', 'data set (.npy, .npz, .txt); the first axis counts samples')
    .description('stream a data set through a model in batches that fit; halves the batch when memory runs out')
    .requiredOption('-o, --out <file>', 'where to write the answers (.npy)')
    .option('--budget <size>', 'memory the model may use, like 4GB')
    .option('--batch <n>', 'largest batch; else chosen from the estimate')
    .option('--dim <name=n>', 'value of a named dimension; may be repeated', collect)
    .option('--provider <name>', 'execution provider', 'cpu')
    .option('--force', 'replace the output file if it exists')
    .action((target: string, data: string, options: BatchOptions, command: Command) =>
      withContext(command, async ({ runtime, print, progress, signal }) => {
        const provider = parseProvider(options.provider);
        const opened = openModel(target);
        const { batch: fixed, dims } = parseShape(options, opened);
        checkOutput(options.out, [opened.path, data], options.force ?? false);
        await requireProvider(runtime, provider);
        const budgetBytes = options.budget ? parseBytes(options.budget) : undefined;
        const dataset = await openData(data, opened, dims);
        try {
          const prepared = prepareEstimate(opened.model);
          const levers = { memoryPattern: false };
          const allDims = { ...dataset.dims, ...dims };
          const fits = (batch: number): boolean =>
            prepared.estimate({ provider, batch, dims: allDims, levers }).peakBytes <= (budgetBytes ?? Infinity);
          const wanted =
            fixed ?? largestBatch(fits, budgetBytes === undefined ? Math.min(dataset.samples, 32) : dataset.samples);
          const result = await streamBatches({
            runtime,
            spec: { modelPath: opened.path, provider, levers },
            dataset,
            batch: opened.summary.batchDimension === null ? 1 : wanted,
            ...(budgetBytes === undefined ? {} : { budgetBytes }),
            output: options.out,
            ...(options.force ? { overwrite: true } : {}),
            onProgress: ({ samples, total, batch }) =>
              progress({ phase: 'checking', done: samples, total, unit: 'samples', item: `batch ${batch}` }),
            signal,
          });
          print(
            { ...result, output: options.out },
            `${result.samples} samples in batches of ${result.batch}: ${result.samplesPerSecond.toFixed(0)} per second, peak ${formatBytes(result.peakBytes)}${result.halvings > 0 ? `, batch halved ${result.halvings} times` : ''}\nWritten: ${options.out}`,
          );
        } finally {
          await dataset.close();
        }
      }),
    );
}
