import type { Command } from 'commander';
import { writeFileSync } from 'node:fs';
import { freemem } from 'node:os';
import path from 'node:path';
import { readLabels } from '../../app/labels.js';
import { runsOfReport } from '../../app/accuracy/runs.js';
import { defaultBudget, defaultProvider, freeNow, openData, openModel, requireProvider } from '../../app/open.js';
import { reasonText, reportHtml } from '../../app/report-html.js';
import { SnugError } from '../../contract/errors.js';
import type { Dtype, FitReport, Pins } from '../../contract/types.js';
import { dtypes } from '../../contract/types.js';
import { fitModel } from '../../fit/fit.js';
import { checkOutput } from '../../fit/workspace.js';
import { readHardware } from '../../hardware/read.js';
import type { CommandContext, ShapeOptions } from '../context.js';
import { batchOf, collect, parseProvider, parseShape, withContext } from '../context.js';
import { damageLines } from '../damage.js';
import { deviceHere, knownHere, machineRecord, summaryLine } from '../machine.js';
import { formatBytes, milliseconds, parseBytes, parseNumber, percent, signedPercent, table } from '../format.js';
import { NothingFits } from '../outcome.js';

export interface FitOptions extends ShapeOptions {
  recover?: boolean;
  out?: string;
  budget?: string;
  calibrate?: string;
  labels?: string;
  provider?: string;
  dtype?: string;
  ratio?: string;
  force?: boolean;
  report?: string;
}

export function parseDtype(text: string): Dtype {
  const dtype = dtypes.find((d) => d === text);
  if (dtype) return dtype;
  throw new SnugError('E_USAGE', `"${text}" is no number format.`, { action: `Use one of: ${dtypes.join(', ')}.` });
}

function defaultOutput(modelPath: string): string {
  const { dir, name } = path.parse(modelPath);
  return path.join(dir, `${name}.snug.onnx`);
}

/** The body of `snug fit`; `snug demo` runs it on the bundled sample. */
export async function runFit(context: CommandContext, target: string, options: FitOptions): Promise<void> {
  const { runtime, signal, print, progress } = context;
  const opened = openModel(target);
  const provider = options.provider
    ? parseProvider(options.provider)
    : defaultProvider(await readHardware({ providers: await runtime.providers() }), await runtime.providers());
  await requireProvider(runtime, provider);
  const { batch, dims } = parseShape(options, opened);
  // A batch that the file fixes to another size is an error before anything is planned.
  if (batch !== undefined) batchOf(opened, batch);
  const pins: Pins = {
    dims,
    ...(options.provider ? { provider } : {}),
    ...(batch === undefined ? {} : { batch }),
    ...(options.dtype ? { dtype: parseDtype(options.dtype) } : {}),
    ...(options.ratio ? { pruneRatio: parseNumber(options.ratio, '--ratio', 0, 0.95) } : {}),
  };
  const outputPath = options.out ?? defaultOutput(opened.path);
  if (options.labels && !options.calibrate) {
    throw new SnugError('E_USAGE', '--labels says what is right for samples, and there are none.', {
      action: 'Give the samples with --calibrate.',
    });
  }
  if (options.recover === true && !options.calibrate) {
    throw new SnugError('E_USAGE', '--recover trains on samples, and there are none.', {
      action: 'Give the samples with --calibrate.',
    });
  }
  const inputPaths = [opened.path, options.calibrate, options.labels].filter((file) => file !== undefined);
  checkOutput(outputPath, inputPaths, options.force ?? false);
  if (options.report) checkOutput(options.report, [...inputPaths, outputPath], options.force ?? false);
  const budgetBytes = options.budget ? parseBytes(options.budget) : await defaultBudget(runtime, provider);
  const dataset = options.calibrate ? await openData(options.calibrate, opened, dims) : null;
  try {
    const labels = dataset && options.labels ? await readLabels(options.labels, dataset.samples, opened.summary) : null;
    const record = machineRecord();
    const known = await knownHere(record, runtime, provider);
    const report = await fitModel({
      model: opened.model,
      modelPath: opened.path,
      inputs: opened.inputs,
      outputPath,
      budgetBytes,
      provider,
      pins,
      dataset,
      ...(labels ? { labels } : {}),
      runtime,
      freeBytes: () => freeNow(provider),
      ...(options.recover === false
        ? {}
        : {
            recovery: {
              mode: options.recover === true ? ('always' as const) : ('auto' as const),
              runtime,
              memoryBytes: freemem() / 2,
            },
          }),
      ...(known ? { known } : {}),
      overwrite: options.force ?? false,
      onProgress: progress,
      signal,
    });
    if (options.report) {
      const html = options.report.endsWith('.html');
      writeFileSync(options.report, html ? reportHtml(report) : `${JSON.stringify(report, null, 2)}\n`);
    }
    await record.addRuns(runsOfReport(report, await deviceHere(runtime, provider), Date.now()));
    const { summary } = await record.view();
    print(report, [reportText(report), ...(summary ? ['', summaryLine(summary)] : [])].join('\n'));
    if (!report.fits) throw new NothingFits();
  } finally {
    await dataset?.close();
  }
}

/** What was chosen, in one sentence. */
export function planSentence(report: FitReport): string {
  const { plan } = report;
  const bytesBy = new Map<string, number>();
  for (const w of plan.weights) bytesBy.set(w.dtype, (bytesBy.get(w.dtype) ?? 0) + w.bytesBefore);
  const all = [...bytesBy.values()].reduce((a, b) => a + b, 0) || 1;
  const formats = [...bytesBy]
    .sort((a, b) => b[1] - a[1])
    .filter(([, bytes]) => bytes / all >= 0.005)
    .map(([dtype, bytes]) => `${dtype} for ${percent(bytes / all, 0)} of the weights`);
  const pruned = plan.classes.some((c) => c.after < c.before)
    ? `${plan.classes.filter((c) => c.after < c.before).length} widths cut by ${percent(plan.pruneRatio, 0)} (${plan.pruneMethod})`
    : 'nothing pruned';
  return `${formats.join(', ') || 'fp32'}; ${pruned}; batch ${plan.batch} on ${plan.provider}`;
}

function reportText(report: FitReport): string {
  const { before, measured, predicted, after, quality } = report;
  const within = measured ? predicted.peakBytes / measured.peakBytes - 1 : null;
  const rows = [
    [
      'peak memory',
      before.measured ? formatBytes(before.measured.peakBytes) : `about ${formatBytes(before.estimate.peakBytes)}`,
      measured ? formatBytes(measured.peakBytes) : '–',
      `${formatBytes(predicted.peakBytes)}${within === null ? '' : ` (${signedPercent(within)})`}`,
    ],
    ['file', formatBytes(before.fileBytes), formatBytes(after.fileBytes), ''],
    ['parameters', before.parameters.toLocaleString('en'), after.parameters.toLocaleString('en'), ''],
    [
      'latency',
      before.measured ? milliseconds(before.measured.latencyMs) : '–',
      measured ? milliseconds(measured.latencyMs) : '–',
      '',
    ],
  ];
  const lines = [
    report.fits
      ? `${report.model.name} fits: ${measured ? formatBytes(measured.peakBytes) : '–'} of ${formatBytes(report.budgetBytes)}`
      : `Nothing fits into ${formatBytes(report.budgetBytes)}. The smallest reachable peak is ${formatBytes(measured?.peakBytes ?? predicted.peakBytes)}.`,
    `Plan: ${planSentence(report)}`,
    '',
    table(['', 'before', report.fits ? 'after' : 'smallest', 'predicted'], rows, [1, 2, 3]),
  ];
  if (quality) lines.push('', ...damageLines(quality));
  if (report.tried.length > 1) {
    lines.push(
      '',
      table(
        ['tried', 'predicted', 'measured', 'outcome'],
        report.tried.map((t) => [
          t.label,
          formatBytes(t.predictedBytes),
          t.measuredBytes === null ? '–' : formatBytes(t.measuredBytes),
          t.outcome,
        ]),
        [1, 2],
      ),
    );
  }
  const reasons = report.reasons.map(reasonText);
  if (reasons.length > 0) lines.push('', ...reasons.slice(0, 12).map((r) => `· ${r}`));
  if (reasons.length > 12) lines.push(`· and ${reasons.length - 12} more (see --json)`);
  if (report.output)
    lines.push(
      '',
      `Written: ${report.output.path} (${formatBytes(report.output.fileBytes)}), in ${report.seconds.toFixed(1)} s`,
    );
  return lines.join('\n');
}

export function addFit(program: Command): void {
  program
    .command('fit')
    .argument('<model>', '.onnx file, or a folder with one')
    .description('the one button: prune, quantize and batch a model so that it fits, run it, and report')
    .option('-o, --out <file>', 'where to write the result (default: MODEL.snug.onnx beside the original)')
    .option('--budget <size>', 'memory the model may use, like 4GB (default: what is free now, less a margin)')
    .option(
      '--calibrate <data>',
      'unlabelled samples (.npy, .npz, .txt, a folder of images): repair, 8-bit activations, and from 50 on comparison on some kept out',
    )
    .option('--labels <file>', 'right classes of those samples (.npy): how many answers were right before and after')
    .option('--provider <name>', 'execution provider (default: the best one this computer has)')
    .option(
      '--recover',
      'train what pruning and quantization leave on the samples, up to 10 minutes; by default only where the answers suffered, for 30 s to 2 minutes',
    )
    .option('--no-recover', 'train nothing')
    .option('--batch <n>', 'fix the batch; else the largest that fits is chosen')
    .option('--dim <name=n>', 'value of a named dimension; may be repeated', collect)
    .option('--dtype <format>', `fix the number format: ${dtypes.join(', ')}`)
    .option('--ratio <r>', 'fix the prune ratio, 0 to 0.95')
    .option('--force', 'replace the output file if it exists')
    .option('--report <file>', 'also write the report: .json or .html')
    .action((target: string, options: FitOptions, command: Command) =>
      withContext(command, (context) => runFit(context, target, options)),
    );
}
