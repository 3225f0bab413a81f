import type { Command } from 'commander';
import { openData, openModel } from '../../app/open.js';
import { pruneFile, sparsifyFile, type PruneFileResult, type SparsifyFileResult } from '../../app/shrink.js';
import { SnugError } from '../../contract/errors.js';
import { pruneMethods } from '../../contract/types.js';
import { checkOutput } from '../../fit/workspace.js';
import type { SparsityPattern } from '../../prune/index.js';
import { collect, parseShape, withContext } from '../context.js';
import { formatBytes, parseNumber, percent, table } from '../format.js';

interface PruneOptions {
  out: string;
  ratio?: string;
  sparsity?: string;
  method?: string;
  allocate?: string;
  calibrate?: string;
  dim?: string[];
  force?: boolean;
}

const allocations = ['uniform', 'measured'] as const;

export function addPrune(program: Command): void {
  program
    .command('prune')
    .argument('<model>', '.onnx file, or a folder with one')
    .description(
      'remove hidden units and inner channels by a ratio (the model really gets smaller), or set weights to zero',
    )
    .requiredOption('-o, --out <file>', 'where to write the result')
    .option('--ratio <r>', 'share of each inner width to remove, 0 to 0.95')
    .option('--sparsity <s>', 'instead: a share of weights to set to zero (0.5), or a pattern (2:4); saves no memory')
    .option('--method <name>', `${pruneMethods.join(', ')} (default: repair)`)
    .option(
      '--allocate <how>',
      'uniform: every width by the ratio; measured: the same bytes where it costs least, with repair (default: uniform)',
    )
    .option(
      '--calibrate <data>',
      'unlabelled samples for the repair (.npy, .npz, .txt, a folder of images); made-up inputs otherwise',
    )
    .option('--dim <name=n>', 'value of a named dimension; may be repeated', collect)
    .option('--force', 'replace the output file if it exists')
    .action((target: string, options: PruneOptions, command: Command) =>
      withContext(command, async (context) => {
        const what = parseWhat(options);
        const opened = openModel(target);
        const { dims } = parseShape(options, opened);
        const inputs = options.calibrate ? [opened.path, options.calibrate] : [opened.path];
        checkOutput(options.out, inputs, options.force ?? false);
        const dataset = options.calibrate ? await openData(options.calibrate, opened, dims) : null;
        const request = {
          opened,
          outputPath: options.out,
          dataset,
          dims,
          runtime: context.runtime,
          overwrite: options.force ?? false,
          onProgress: context.progress,
          signal: context.signal,
        };
        try {
          if (what.kind === 'sparsity') {
            const result = await sparsifyFile({ ...request, pattern: what.pattern });
            context.print(result, sparsityText(result, what.pattern));
          } else {
            const result = await pruneFile({ ...request, ...what });
            context.print(result, pruneText(result, what.method));
          }
        } finally {
          await dataset?.close();
        }
      }),
    );
}

type Method = (typeof pruneMethods)[number];

type What =
  | { kind: 'ratio'; ratio: number; method: Method; allocation: (typeof allocations)[number] }
  | { kind: 'sparsity'; pattern: SparsityPattern };

function parseWhat(options: PruneOptions): What {
  if ((options.ratio === undefined) === (options.sparsity === undefined)) {
    throw new SnugError('E_USAGE', 'Say how to prune: by --ratio or by --sparsity, not both.', {
      action: 'Use --ratio 0.3 for a smaller model, or --sparsity 2:4 for zeros.',
    });
  }
  if (options.sparsity !== undefined) {
    if (options.method !== undefined || options.allocate !== undefined) {
      throw new SnugError('E_USAGE', '--method and --allocate choose which widths to cut; --sparsity cuts none.', {
        action: 'Leave them out, or prune by --ratio.',
      });
    }
    return { kind: 'sparsity', pattern: parsePattern(options.sparsity) };
  }
  const method = oneOf(pruneMethods, options.method ?? 'repair', 'pruning method');
  const allocation = oneOf(allocations, options.allocate ?? 'uniform', 'way to allocate');
  if (allocation === 'measured' && method !== 'repair') {
    throw new SnugError('E_USAGE', `What each width costs is measured with repair, not by ${method}.`, {
      action: 'Leave out --method, or use --allocate uniform.',
    });
  }
  return { kind: 'ratio', ratio: parseNumber(options.ratio!, '--ratio', 0, 0.95), method, allocation };
}

function oneOf<T extends string>(list: readonly T[], given: string, what: string): T {
  const known = list.find((name) => name === given);
  if (known) return known;
  throw new SnugError('E_USAGE', `"${given}" is no ${what}.`, { action: `Use one of: ${list.join(', ')}.` });
}

function parsePattern(text: string): SparsityPattern {
  const pattern = /^(\d{1,3}):(\d{1,3})$/.exec(text);
  if (pattern) return { kind: 'n:m', n: Number(pattern[1]), m: Number(pattern[2]) };
  return { kind: 'unstructured', share: parseNumber(text, '--sparsity', 0.01, 0.99) };
}

function pruneText(result: PruneFileResult, method: Method): string {
  const cut = result.classes.filter((c) => c.after < c.before);
  const runs = method === 'repair' || method === 'activation';
  return [
    `${percent(1 - result.after.parameters / result.before.parameters)} of the parameters removed: ${result.before.parameters.toLocaleString('en')} → ${result.after.parameters.toLocaleString('en')}`,
    `weights ${formatBytes(result.before.weightBytes)} → ${formatBytes(result.after.weightBytes)}`,
    ...(runs && cut.length > 0 ? [damageText(result)] : []),
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
  ].join('\n');
}

function damageText({ damage, inputs }: PruneFileResult): string {
  const on = inputs === 'samples' ? 'samples kept out of the fit' : 'made-up inputs: give --calibrate DATA to be sure';
  if (damage === null) return `Damage not measured (${on}).`;
  const far = damage.furthestRatio === null ? '' : `; this far and no further: ratio ${damage.furthestRatio} (20 dB)`;
  return `Answers changed by ${damage.sqnrDb.toFixed(1)} dB signal to noise on ${on}${far}.`;
}

function sparsityText(result: SparsifyFileResult, pattern: SparsityPattern): string {
  const zeros = result.weights.reduce((sum, weight) => sum + weight.zeros, 0);
  const elements = result.weights.reduce((sum, weight) => sum + weight.elements, 0);
  const dense = result.weights.filter((weight) => weight.zeros === 0);
  const use = pattern.kind === 'n:m' ? 'TensorRT can use this pattern' : 'a download gets smaller once compressed';
  return [
    `${percent(zeros / Math.max(1, elements))} of the weights are zero now. This saves no memory in onnxruntime; ${use}.`,
    ...(result.compressed === null
      ? []
      : [`compressed ${formatBytes(result.compressed.beforeBytes)} → ${formatBytes(result.compressed.afterBytes)}`]),
    ...(result.sqnrDb === null
      ? ['Not repaired: give --calibrate DATA to refit what is left.']
      : [`Answers changed by ${result.sqnrDb.toFixed(1)} dB signal to noise on samples kept out of the fit.`]),
    ...dense.slice(0, 8).map((weight) => `${weight.name} stayed dense: ${weight.note ?? 'too small'}`),
    `Written: ${result.output.path} (${formatBytes(result.output.fileBytes)})`,
  ].join('\n');
}
