import type { Command } from 'commander';
import { openData, openModel, requireProvider } from '../../app/open.js';
import type { Measurement, MemoryParts } from '../../contract/types.js';
import { sessionMetadataKey } from '../../fit/attempt.js';
import { feedsForBatch } from '../../fit/reference.js';
import { estimateMemory } from '../../memory/estimate.js';
import type { ShapeOptions } from '../context.js';
import { collect, parseProvider, parseShape, withContext } from '../context.js';
import { formatBytes, milliseconds, percent, table } from '../format.js';

interface MemoryOptions extends ShapeOptions {
  provider: string;
  data?: string;
  measure?: boolean;
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

/** The memory-pattern option a model written by `snug fit` counts on; onnxruntime's default otherwise. */
function wantedPattern(metadata: Map<string, string>): boolean {
  try {
    const session = JSON.parse(metadata.get(sessionMetadataKey) ?? '{}') as { memoryPattern?: unknown };
    return session.memoryPattern !== false;
  } catch {
    return true;
  }
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
    .action((target: string, options: MemoryOptions, command: Command) =>
      withContext(command, async ({ runtime, print, progress }) => {
        const provider = parseProvider(options.provider);
        const opened = openModel(target);
        const { batch = 1, dims } = parseShape(options, opened);
        const dataset = options.data ? await openData(options.data, opened, dims) : null;
        const levers = { memoryPattern: wantedPattern(opened.model.metadata) };
        const allDims = { ...dataset?.dims, ...dims };
        const estimate = estimateMemory(opened.model, { provider, batch, dims: allDims, levers });
        let measured: Measurement | undefined;
        if (options.measure) {
          await requireProvider(runtime, provider);
          progress({ phase: 'checking', done: 0, total: null, unit: 'runs' });
          const feeds = await feedsForBatch(dataset, opened.inputs, estimate.dims, batch);
          measured = await runtime.measure({ modelPath: opened.path, provider, levers }, feeds, { warmRuns: 5, batch });
        }
        await dataset?.close();
        const phases = [
          ['load', estimate.load],
          ['first run', estimate.cold],
          ['later runs', estimate.warm],
        ] as const;
        const lines = [
          `${opened.summary.name} on ${provider}, batch ${batch}: needs about ${formatBytes(estimate.peakBytes)} (${formatBytes(estimate.lowBytes)} to ${formatBytes(estimate.highBytes)})`,
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
          const off = estimate.peakBytes / measured.peakBytes - 1;
          lines.push(
            '',
            `Measured ${formatBytes(measured.peakBytes)} (${measured.method}); the estimate is ${percent(Math.abs(off))} ${off >= 0 ? 'above' : 'below'}.`,
            `Latency ${milliseconds(measured.latencyMs)}, ${measured.samplesPerSecond.toFixed(0)} samples per second.`,
            ...measured.fallbacks.map((f) => `${f.operator} (${f.node}) ran on ${f.provider}.`),
          );
        }
        print(
          { estimate: { ...estimate, parts: estimate.warm.parts }, ...(measured ? { measured } : {}) },
          lines.join('\n'),
        );
      }),
    );
}
