import type { Command } from 'commander';
import { compareModels } from '../../app/compare.js';
import { readLabels } from '../../app/labels.js';
import { openData, openModel, requireProvider } from '../../app/open.js';
import { SnugError } from '../../contract/errors.js';
import type { ShapeOptions } from '../context.js';
import { batchOf, collect, parseProvider, parseShape, withContext } from '../context.js';
import { damageLines } from '../damage.js';

/** Samples run at a time where nobody says otherwise. */
const usualBatch = 8;

interface CompareOptions extends ShapeOptions {
  labels?: string;
  provider: string;
}

export function addCompare(program: Command): void {
  program
    .command('compare')
    .argument('<original>', '.onnx file, or a folder with one')
    .argument('<result>', 'another form of it, whoever made it')
    .argument('[data]', 'samples (.npy, .npz, .txt, a folder of images); random inputs without')
    .description('the damage report: how far the answers of a smaller model are from those of the original')
    .option('--labels <file>', 'right classes of the samples (.npy): how many answers are right in both')
    .option('--provider <name>', 'execution provider both are run by', 'cpu')
    .option('--dim <name=n>', 'value of a named dimension; may be repeated', collect)
    .action((first: string, second: string, data: string | undefined, options: CompareOptions, command: Command) =>
      withContext(command, async ({ runtime, signal, print, progress }) => {
        const original = openModel(first);
        const result = openModel(second);
        const provider = parseProvider(options.provider);
        await requireProvider(runtime, provider);
        const { batch: asked, dims } = parseShape(options, original);
        const open = original.summary.batchDimension !== null;
        const batch = batchOf(original, asked ?? (open ? usualBatch : undefined));
        if (options.labels && data === undefined) {
          throw new SnugError('E_USAGE', '--labels says what is right for samples, and there are none.', {
            action: 'Give the samples after the two models.',
          });
        }
        const dataset = data === undefined ? null : await openData(data, original, dims);
        try {
          const labels =
            dataset && options.labels ? await readLabels(options.labels, dataset.samples, original.summary) : null;
          progress({ phase: 'comparing', done: 0, total: null, unit: 'samples' });
          const quality = await compareModels({
            ...{ original, result, dataset, labels, batch, dims, provider, runtime, signal },
          });
          const names = `${result.summary.name} against ${original.summary.name}`;
          print(quality, [names, ...damageLines(quality)].join('\n'));
        } finally {
          await dataset?.close();
        }
      }),
    );
}
