import type { Command } from 'commander';
import { runOf } from '../../app/accuracy/runs.js';
import { defaultBudget, openData, openModel, requireProvider } from '../../app/open.js';
import type { BatchKnee, BatchSweep } from '../../contract/throughput.js';
import type { Dtype, Measurement, MemoryParts } from '../../contract/types.js';
import { kneeOf, sweepBatches } from '../../fit/batch-sweep.js';
import { feedsForBatch } from '../../fit/reference.js';
import { sessionLevers } from '../../fit/session-levers.js';
import { estimateMemory } from '../../memory/estimate.js';
import { DataType, type Model } from '../../onnx/model.js';
import { withKnownError } from '../../memory/interval.js';
import type { ShapeOptions } from '../context.js';
import { batchOf, collect, parseProvider, parseShape, withContext } from '../context.js';
import { deviceHere, intervalLine, knownHere, machineRecord, summaryLine } from '../machine.js';
import { formatBytes, milliseconds, percent, table } from '../format.js';

interface MemoryOptions extends ShapeOptions {
  provider: string;
  data?: string;
  measure?: boolean;
  sweep?: boolean;
}

function partsLine(parts: MemoryParts): string {
  return [
    ['weights', parts.weightsBytes],
    ['activations', parts.activationsBytes],
    ['cache', parts.cacheBytes],
    ['workspace', parts.workspaceBytes],
    ['runtime', parts.runtimeBytes],
  ]
    .filter(([, bytes]) => bytes !== 0)
    .map(([name, bytes]) => `${name} ${formatBytes(bytes as number)}`)
    .join(', ');
}

/** How far an estimate was off; null where the device showed nothing to compare with. */
function offLine(estimated: number, measured: number): string | null {
  if (measured === 0) return null;
  const off = estimated / measured - 1;
  return `the estimate is ${percent(Math.abs(off))} ${off >= 0 ? 'above' : 'below'}`;
}

/** The number format most of the weight bytes of a file are stored in. */
function fileDtype({ graph }: Model): Dtype {
  // Several weights lie in each byte of such tensors, whose own type is uint8.
  const packed = new Map<string | undefined, Dtype>();
  for (const { opType, attributes, inputs } of graph.nodes) {
    const bits = attributes.get('bits')?.value;
    if (opType === 'MatMulBnb4') packed.set(inputs[1], 'nf4');
    if (opType === 'MatMulNBits' && (bits === 4 || bits === 2)) packed.set(inputs[1], bits === 4 ? 'int4' : 'int2');
    if (opType === 'GatherBlockQuantized' && bits === 2) packed.set(inputs[0], 'int2');
  }
  const bytes = new Map<Dtype, number>();
  for (const { name, dataType, data } of graph.initializers.values()) {
    const dtype = packed.get(name) ?? storedDtype(dataType);
    if (dtype) bytes.set(dtype, (bytes.get(dtype) ?? 0) + data.byteLength);
  }
  return [...bytes].sort((a, b) => b[1] - a[1])[0]?.[0] ?? 'fp32';
}

function storedDtype(dataType: number): Dtype | null {
  if (dataType === DataType.FLOAT) return 'fp32';
  if (dataType === DataType.FLOAT16) return 'fp16';
  if (dataType === DataType.INT8 || dataType === DataType.UINT8) return 'int8';
  return dataType === DataType.INT4 || dataType === DataType.UINT4 ? 'int4' : null;
}

function sweepLines({ points, knee }: BatchSweep & { knee: BatchKnee | null }): string[] {
  if (!knee) return ['No batch fits the memory that is free now, so none was run.'];
  return [
    table(
      ['batch', 'samples per second', 'time per run', 'measured', 'estimated', ''],
      points.map((point) => [
        String(point.batch),
        point.samplesPerSecond.toFixed(point.samplesPerSecond < 10 ? 1 : 0),
        milliseconds(point.latencyMs),
        formatBytes(point.measuredBytes),
        formatBytes(point.estimatedBytes),
        point.batch === knee.batch ? 'knee' : '',
      ]),
      [0, 1, 2, 3, 4],
    ),
    knee.batch === knee.fastest
      ? `The knee is batch ${knee.batch}: no larger batch that was run is faster.`
      : `The knee is batch ${knee.batch}: ${percent(knee.share)} of the speed of batch ${knee.fastest}, the fastest that was run.`,
  ];
}

export function addMemory(program: Command): void {
  program
    .command('memory')
    .argument('<model>', '.onnx file, or a folder with one')
    .description('work out how much memory a model will need; with --measure, run it and compare')
    .option('--batch <n>', 'samples in one run (default 1)')
    .option('--dim <name=n>', 'value of a named dimension; may be repeated', collect)
    .option('--provider <name>', 'execution provider', 'cpu')
    .option('--data <file>', 'inputs to measure with (.npy, .npz or .txt); made-up inputs otherwise')
    .option('--measure', 'run the model and read its peak back')
    .option('--sweep', 'run it at doubling batch sizes, and mark the smallest that is nearly as fast as the fastest')
    .action((target: string, options: MemoryOptions, command: Command) =>
      withContext(command, async ({ runtime, print, progress }) => {
        const provider = parseProvider(options.provider);
        const opened = openModel(target);
        const { batch: asked, dims } = parseShape(options, opened);
        const batch = batchOf(opened, asked);
        const dataset = options.data ? await openData(options.data, opened, dims) : null;
        const levers = sessionLevers(opened.model.metadata);
        const allDims = { ...dataset?.dims, ...dims };
        const record = machineRecord();
        const estimate = withKnownError(
          estimateMemory(opened.model, { provider, batch, dims: allDims, levers }),
          await knownHere(record, runtime, provider),
        );
        let measured: Measurement | undefined;
        if (options.measure) {
          await requireProvider(runtime, provider);
          progress({ phase: 'checking', done: 0, total: null, unit: 'runs' });
          const feeds = await feedsForBatch(dataset, opened.inputs, estimate.dims, batch);
          measured = await runtime.measure({ modelPath: opened.path, provider, levers }, feeds, { warmRuns: 5, batch });
          const key = await deviceHere(runtime, provider);
          await record.addRuns([
            runOf(opened.summary.name, fileDtype(opened.model), estimate, measured, key, Date.now()),
          ]);
        }
        let sweep: (BatchSweep & { knee: BatchKnee | null }) | undefined;
        if (options.sweep) {
          await requireProvider(runtime, provider);
          const swept = await sweepBatches({
            ...{ model: opened.model, modelPath: opened.path, inputs: opened.inputs, dataset, runtime, provider },
            dims: allDims,
            limitBytes: await defaultBudget(runtime, provider),
            onSweep: ({ points, total }) => progress({ phase: 'checking', done: points.length, total, unit: 'runs' }),
          });
          sweep = { ...swept, knee: kneeOf(swept.points.map((point) => ({ ...point, fits: true }))) };
        }
        await dataset?.close();
        const { summary } = await record.view();
        const phases = [
          ['load', estimate.load],
          ['first run', estimate.cold],
          ['later runs', estimate.warm],
        ] as const;
        const lines = [
          `${opened.summary.name} on ${provider}, batch ${batch}: needs about ${formatBytes(estimate.peakBytes)}`,
          intervalLine(estimate),
          table(
            ['phase', 'peak', 'made of'],
            phases.map(([name, p]) => [name, formatBytes(p.peakBytes), partsLine(p.parts)]),
            [1],
          ),
          '',
          table(
            ['largest', 'kind', 'size'],
            estimate.topTensors.slice(0, 6).map((t) => [t.name, t.kind, formatBytes(t.bytes)]),
            [2],
          ),
          ...estimate.assumed.map((name) => `Assumed ${name} = ${estimate.dims[name]}; set it with --dim ${name}=N.`),
          ...estimate.unknown.slice(0, 5).map((u) => `Size of ${u.name} is unknown: ${u.reason}`),
          ...estimate.limits,
        ];
        if (measured) {
          const off = offLine(estimate.peakBytes, measured.peakBytes);
          lines.push(
            '',
            `Measured ${formatBytes(measured.peakBytes)} (${measured.method})${off === null ? '' : `; ${off}`}.`,
            `Latency ${milliseconds(measured.latencyMs)}, ${measured.samplesPerSecond.toFixed(0)} samples per second.`,
            ...measured.fallbacks.map((f) => `${f.operator} (${f.node}) ran on ${f.provider}.`),
            ...(summary ? [summaryLine(summary)] : []),
          );
        }
        if (sweep) lines.push('', ...sweepLines(sweep));
        print(
          {
            estimate: { ...estimate, parts: estimate.warm.parts },
            ...(measured ? { measured } : {}),
            ...(sweep ? { sweep } : {}),
          },
          lines.join('\n'),
        );
      }),
    );
}
