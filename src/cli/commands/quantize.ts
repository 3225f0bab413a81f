import type { Command } from 'commander';
import { openData, openModel } from '../../app/open.js';
import { quantizeFile } from '../../app/shrink.js';
import { dtypes } from '../../contract/types.js';
import { collect, parseProvider, parseShape, withContext } from '../context.js';
import { formatBytes, table } from '../format.js';
import { parseDtype } from './fit.js';

interface QuantizeOptions {
  out: string;
  dtype: string;
  calibrate?: string;
  provider: string;
  dim?: string[];
  force?: boolean;
}

export function addQuantize(program: Command): void {
  program
    .command('quantize')
    .argument('<model>', '.onnx file, or a folder with one')
    .description('give the weights a smaller number format; what cannot have it is listed with its reason')
    .requiredOption('-o, --out <file>', 'where to write the result')
    .requiredOption('--dtype <format>', dtypes.filter((d) => d !== 'fp32').join(', '))
    .option('--calibrate <data>', 'unlabelled samples; int8-static needs them (.npy, .npz, .txt)')
    .option('--provider <name>', 'execution provider the result is for', 'cpu')
    .option('--dim <name=n>', 'value of a named dimension; may be repeated', collect)
    .option('--force', 'replace the output file if it exists')
    .action((target: string, options: QuantizeOptions, command: Command) =>
      withContext(command, async (context) => {
        const { dims } = parseShape(options);
        const opened = openModel(target);
        const dataset = options.calibrate ? await openData(options.calibrate, opened, dims) : null;
        try {
          const result = await quantizeFile({
            opened,
            outputPath: options.out,
            dtype: parseDtype(options.dtype),
            provider: parseProvider(options.provider),
            dataset,
            dims,
            runtime: context.runtime,
            overwrite: options.force ?? false,
            onProgress: context.progress,
            signal: context.signal,
          });
          const shown = result.weights.filter((w) => w.bytesBefore >= 1024).slice(0, 40);
          context.print(
            result,
            [
              `weights ${formatBytes(result.before.weightBytes)} → ${formatBytes(result.after.weightBytes)}, file ${formatBytes(result.before.fileBytes)} → ${formatBytes(result.after.fileBytes)}`,
              '',
              table(
                ['weight', 'operator', 'format', 'before', 'after', 'SQNR', 'note'],
                shown.map((w) => [
                  w.name,
                  w.operator,
                  w.dtype,
                  formatBytes(w.bytesBefore),
                  formatBytes(w.bytesAfter),
                  w.sqnrDb === null ? '' : `${w.sqnrDb.toFixed(1)} dB`,
                  w.reason ?? '',
                ]),
                [3, 4, 5],
              ),
              `Written: ${result.output.path} (${formatBytes(result.output.fileBytes)})`,
            ].join('\n'),
          );
        } finally {
          await dataset?.close();
        }
      }),
    );
}
