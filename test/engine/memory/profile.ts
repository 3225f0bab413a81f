import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import * as ort from 'onnxruntime-node';

interface NodeEvent {
  cat: string;
  name: string;
  args: Record<string, string> & { output_type_shape: Record<string, number[]>[] };
}

export interface Profiled {
  /** Nodes of one run in execution order. */
  nodes: { name: string; operator: string; outputs: number[][] }[];
  /** The arena's high-water mark after each run. */
  peaks: number[];
  /** Bytes of constants still held outside of what kernels packed. */
  weights: number;
}

export interface ProfileOptions {
  level: 'disabled' | 'all';
  memoryPattern: boolean;
  runs: number;
  dims: Record<string, number>;
}

function feed(meta: ort.InferenceSession.ValueMetadata, dims: Record<string, number>): ort.Tensor {
  if (!meta.isTensor) throw new Error(`${meta.name} is no tensor`);
  const shape = meta.shape.map((dim, axis) =>
    typeof dim === 'number' && dim >= 0 ? dim : (dims[dim] ?? dims[`${meta.name}.${axis}`] ?? NaN),
  );
  const count = shape.reduce((product, size) => product * size, 1);
  if (meta.type === 'int64') return new ort.Tensor('int64', new BigInt64Array(count).fill(1n), shape);
  return new ort.Tensor(
    'float32',
    Float32Array.from({ length: count }, (_, i) => Math.sin(i)),
    shape,
  );
}

/** Runs a model with onnxruntime's profiler on and reads its memory counters back. */
export async function profileModel(
  model: string | Uint8Array,
  { level, memoryPattern, runs, dims }: ProfileOptions,
): Promise<Profiled> {
  const folder = mkdtempSync(path.join(os.tmpdir(), 'snug-memory-'));
  try {
    const options: ort.InferenceSession.SessionOptions = {
      graphOptimizationLevel: level,
      enableMemPattern: memoryPattern,
      enableProfiling: true,
      profileFilePrefix: path.join(folder, 'profile'),
      logSeverityLevel: 4,
    };
    const session =
      typeof model === 'string'
        ? await ort.InferenceSession.create(model, options)
        : await ort.InferenceSession.create(model, options);
    const feeds = Object.fromEntries(session.inputMetadata.map((meta) => [meta.name, feed(meta, dims)]));
    for (let run = 0; run < runs; run += 1) {
      for (const tensor of Object.values(await session.run(feeds))) tensor.dispose();
    }
    session.endProfiling();
    await session.release();
    const [file] = readdirSync(folder);
    const events = JSON.parse(readFileSync(path.join(folder, file ?? ''), 'utf8')) as NodeEvent[];
    const all = events.filter((event) => event.cat === 'Node' && event.name.endsWith('_kernel_time'));
    const perRun = all.length / runs;
    const first = all.slice(0, perRun);
    return {
      nodes: first.map(({ name, args }) => ({
        name: name.replace('_kernel_time', ''),
        operator: args.op_name ?? '',
        outputs: args.output_type_shape.map((output) => Object.values(output)[0] ?? []),
      })),
      peaks: Array.from({ length: runs }, (_, run) => Number(all[(run + 1) * perRun - 1]?.args.mem_in_use_peak)),
      weights: first.reduce((sum, { args }) => sum + Number(args.parameter_size), 0),
    };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
