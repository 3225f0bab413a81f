import type { Command } from 'commander';
import { openData, openModel } from '../../app/open.js';
import { pruneFile } from '../../app/shrink.js';
import { SnugError } from '../../contract/errors.js';
import { pruneMethods } from '../../contract/types.js';
import { checkOutput } from '../../fit/workspace.js';
import { collect, parseShape, withContext } from '../context.js';
import { formatBytes, parseNumber, percent, table } from '../format.js';

interface PruneOptions {
  out: string;
  ratio: string;
  method?: string;
  calibrate?: string;
  dim?: string[];
  force?: boolean;
}

export function addPrune(program: Command): void {
  program
    .command('prune')
    .argument('<model>', '.onnx file, or a folder with one')
    .description('remove hidden units and inner channels by a ratio; the model really gets smaller')
    .requiredOption('-o, --out <file>', 'where to write the result')
    .requiredOption('--ratio <r>', 'share of each inner width to remove, 0 to 0.95')
    .option('--method <name>', `${pruneMethods.join(', ')} (default: repair with samples, else magnitude)`)
    .option('--calibrate <data>', 'unlabelled samples for the repair (.npy, .npz, .txt)')
    .option('--dim <name=n>', 'value of a named dimension; may be repeated', collect)
    .option('--force', 'replace the output file if it exists')
    .action((target: string, options: PruneOptions, command: Command) =>
      withContext(command, async (context) => {
        const ratio = parseNumber(options.ratio, '--ratio', 0, 0.95);
        const method = options.method ?? (options.calibrate ? 'repair' : 'magnitude');
        const known = pruneMethods.find((m) => m === method);
        if (!known) {
          throw new SnugError('E_USAGE', `"${method}" is no pruning method.`, {
            action: `Use one of: ${pruneMethods.join(', ')}.`,
          });
        }
        if (known === 'repair' && !options.calibrate) {
          throw new SnugError('E_USAGE', 'The repair needs samples.', {
            action: 'Add --calibrate DATA, or use --method magnitude.',
          });
        }
        const opened = openModel(target);
        const { dims } = parseShape(options, opened);
        checkOutput(
          options.out,
          options.calibrate ? [opened.path, options.calibrate] : [opened.path],
          options.force ?? false,
        );
        const dataset = options.calibrate ? await openData(options.calibrate, opened, dims) : null;
        try {
          const result = await pruneFile({
            opened,
            outputPath: options.out,
            ratio,
            method: known,
            dataset,
            dims,
            runtime: context.runtime,
            overwrite: options.force ?? false,
            onProgress: context.progress,
            signal: context.signal,
          });
          const cut = result.classes.filter((c) => c.after < c.before);
          context.print(
            result,
            [
              `${percent(1 - result.after.parameters / result.before.parameters)} of the parameters removed: ${result.before.parameters.toLocaleString('en')} → ${result.after.parameters.toLocaleString('en')}`,
              `weights ${formatBytes(result.before.weightBytes)} → ${formatBytes(result.after.weightBytes)}`,
              '',
              cut.length > 0
                ? table(
                    ['width', 'before', 'after'],
                    cut.map((c) => [c.name, String(c.before), String(c.after)]),
                    [1, 2],
                  )
                : result.classes.length > 0
                  ? 'No width gets smaller at this ratio; the file was written unchanged.'
                  : 'No width of this model can be pruned safely; the file was written unchanged.',
              `Written: ${result.output.path} (${formatBytes(result.output.fileBytes)})`,
            ].join('\n'),
          );
        } finally {
          await dataset?.close();
        }
      }),
    );
}
