import type { Command } from 'commander';
import { freemem } from 'node:os';
import { openData, openModel } from '../../app/open.js';
import { quantizeFile, type QuantizeFileResult } from '../../app/shrink.js';
import { SnugError } from '../../contract/errors.js';
import { dtypes, type Dtype, type Provider } from '../../contract/types.js';
import { recoverySeconds } from '../../fit/recover-candidate.js';
import { checkOutput } from '../../fit/workspace.js';
import { collect, parseProvider, parseShape, withContext } from '../context.js';
import { formatBytes, table } from '../format.js';
import { parseDtype } from './fit.js';

interface QuantizeOptions {
  out: string;
  dtype: string;
  calibrate?: string;
  provider: string;
  dim?: string[];
  uniform?: boolean;
  rounding?: string;
  blockSize?: string;
  recover?: boolean;
  force?: boolean;
}

const smaller = dtypes.filter((dtype) => dtype !== 'fp32');
/** Remainders below this share of the result are not worth a line. */
const leastShare = 0.01;

/** What keeps the result from being smaller. */
function wider({ remainders, after }: QuantizeFileResult): string[] {
  return remainders
    .filter(({ bytes }) => bytes >= leastShare * after.weightBytes)
    .map(({ reason, bytes, weights }) => `  ${formatBytes(bytes)} of it in ${weights} weights – ${reason}`);
}

function parseBlockSize(text: string, dtype: Dtype): number {
  const sizes = ['16', '32', '64', '128', '256'];
  if (!sizes.includes(text)) {
    throw new SnugError('E_USAGE', `"${text}" is no block size.`, { action: `Use one of: ${sizes.join(', ')}.` });
  }
  if (dtype !== 'int8' && dtype !== 'int4' && dtype !== 'int2') {
    throw new SnugError('E_USAGE', `${dtype} has no blocks to choose.`, { action: 'Leave out --block-size.' });
  }
  return Number(text);
}

/** Rows of the printed table; `--json` has all. */
const maxRows = 40;

/** The printed result. */
function report(result: QuantizeFileResult, dtype: Dtype, provider: Provider): string {
  const large = result.weights.filter((w) => w.bytesBefore >= 1024);
  const shown = large.slice(0, maxRows);
  const changed = result.weights.some((w) => w.dtype !== 'fp32');
  return [
    ...(changed ? [] : [`No weight of this model can be ${dtype} on ${provider}; it was written unchanged.`]),
    `weights ${formatBytes(result.before.weightBytes)} → ${formatBytes(result.after.weightBytes)}, file ${formatBytes(result.before.fileBytes)} → ${formatBytes(result.after.fileBytes)} (${(result.before.weightBytes / Math.max(1, result.after.weightBytes)).toFixed(2)} times smaller weights)`,
    ...wider(result),
    ...result.notes,
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
    ...(large.length > maxRows ? [`… ${large.length - maxRows} more (see --json)`] : []),
    `Written: ${result.output.path} (${formatBytes(result.output.fileBytes)})`,
  ].join('\n');
}

export function addQuantize(program: Command): void {
  program
    .command('quantize')
    .argument('<model>', '.onnx file, or a folder with one')
    .description('give the weights a smaller number format; what cannot have it is listed with its reason')
    .requiredOption('-o, --out <file>', 'where to write the result')
    .requiredOption('--dtype <format>', smaller.join(', '))
    .option(
      '--calibrate <data>',
      'unlabelled samples (.npy, .npz, .txt, a folder of images); int8-static needs them, int8-dynamic and int4 lose less with them',
    )
    .option('--provider <name>', 'execution provider the result is for', 'cpu')
    .option('--dim <name=n>', 'value of a named dimension; may be repeated', collect)
    .option('--uniform', 'int4: the same format for every weight, however small it is and whatever samples show')
    .option(
      '--rounding <how>',
      'int8, int4 and int2: search for the best scales, or nearest: plain rounding (default: search)',
    )
    .option(
      '--block-size <n>',
      'int8, int4 and int2: weights that share a scale, 16 to 256; fewer are closer and take more bytes',
    )
    .option(
      '--recover',
      'then train scales, biases and norms to answer as the original on the samples, up to 10 minutes; the size stays',
    )
    .option('--force', 'replace the output file if it exists')
    .action((target: string, options: QuantizeOptions, command: Command) =>
      withContext(command, async (context) => {
        const dtype = parseDtype(options.dtype);
        if (dtype === 'fp32') {
          throw new SnugError('E_USAGE', 'fp32 is what the weights are already.', {
            action: `Use one of: ${smaller.join(', ')}.`,
          });
        }
        if (dtype === 'int8-static' && !options.calibrate) {
          throw new SnugError('E_USAGE', 'int8-static needs samples to see what range the activations have.', {
            action: 'Add --calibrate DATA, or use --dtype int8 or int8-dynamic.',
          });
        }
        const rounding = options.rounding ?? 'search';
        if (rounding !== 'search' && rounding !== 'nearest') {
          throw new SnugError('E_USAGE', `"${rounding}" is no way to round.`, { action: 'Use search or nearest.' });
        }
        if (rounding === 'nearest' && options.calibrate) {
          throw new SnugError('E_USAGE', 'Plain rounding looks at no samples.', {
            action: 'Leave out --calibrate, or use --rounding search.',
          });
        }
        const blockSize = options.blockSize === undefined ? undefined : parseBlockSize(options.blockSize, dtype);
        if (options.recover === true && (!options.calibrate || dtype === 'fp16')) {
          throw new SnugError('E_USAGE', '--recover trains on samples what rounding to few bits lost.', {
            action: 'Give samples with --calibrate and a --dtype of 8 bits or less.',
          });
        }
        const provider = parseProvider(options.provider);
        const opened = openModel(target);
        const { dims } = parseShape(options, opened);
        checkOutput(
          options.out,
          options.calibrate ? [opened.path, options.calibrate] : [opened.path],
          options.force ?? false,
        );
        const dataset = options.calibrate ? await openData(options.calibrate, opened, dims) : null;
        try {
          const result = await quantizeFile({
            opened,
            outputPath: options.out,
            dtype,
            provider,
            uniform: options.uniform ?? false,
            rounding,
            ...(blockSize === undefined ? {} : { blockSize }),
            dataset,
            dims,
            runtime: context.runtime,
            ...(options.recover === true
              ? {
                  recovery: {
                    ...{ mode: 'always', runtime: context.runtime, memoryBytes: freemem() / 2 },
                    seconds: recoverySeconds('always', 0),
                  },
                }
              : {}),
            overwrite: options.force ?? false,
            onProgress: context.progress,
            signal: context.signal,
          });
          context.print(result, () => report(result, dtype, provider));
        } finally {
          await dataset?.close();
        }
      }),
    );
}
