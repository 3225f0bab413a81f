import { mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { Model } from '../../../src/onnx/model.js';
import { readProfile } from '../../../src/runtime/profile.js';
import { createSession, runSession, toTensors, valuesOf } from '../../../src/runtime/session.js';
import { sharedWeightExcess } from '../../../src/runtime/shared-weights.js';
import { syntheticFeeds } from '../../../src/runtime/synthetic.js';

/** One node of one run as the profile shows it. */
export interface ObservedNode {
  name: string;
  operator: string;
  outputs: number[][];
  /** Bytes that more are in use after the node than before it. */
  delta: number;
  inUse: number;
  /** High-water mark of the arena so far, loading included. */
  peak: number;
}

/** What the counters leave open: equal when they tell exactly. */
export interface Range {
  low: number;
  high: number;
}

/**
 * The counters show the level after each node, and the high-water mark since loading began. When the mark did not rise
 * in a phase, the phase's peak lies between its highest level and the mark.
 */
export interface Observed {
  load: Range;
  cold: Range;
  warm: Range;
  peak: number;
  /** Nodes of all runs in the order they ran. */
  runs: ObservedNode[][];
}

interface NodeEvent {
  cat: string;
  name: string;
  args: Record<string, string> & { output_type_shape?: Record<string, number[]>[] };
}

function nodesOf(file: string): ObservedNode[] {
  const events = JSON.parse(readFileSync(file, 'utf8')) as NodeEvent[];
  return events
    .filter((event) => event.cat === 'Node' && event.name.endsWith('_kernel_time'))
    .map(({ name, args }) => ({
      name: name.replace(/_kernel_time$/, ''),
      operator: args.op_name ?? '',
      outputs: (args.output_type_shape ?? []).map((output) => Object.values(output)[0] ?? []),
      delta: Number(args.mem_requested_in_use_delta ?? 0),
      inUse: Number(args.mem_bytes_in_use ?? 0),
      peak: Number(args.mem_in_use_peak ?? 0),
    }));
}

/**
 * Runs a model file three times and reads the runtime's own counters the way Snug's measurement does: the arena's
 * level or high-water mark plus the weights outside of it.
 */
export async function observe(file: string, model: Model, dims: Record<string, number>): Promise<Observed> {
  const folder = mkdtempSync(path.join(tmpdir(), 'snug-observe-'));
  const count = 3;
  try {
    const profiling = { enableProfiling: true, profileFilePrefix: path.join(folder, 'profile') };
    const session = await createSession({ modelPath: file, provider: 'cpu' }, profiling);
    const tensors = await toTensors(syntheticFeeds(valuesOf(session.inputMetadata), dims, 1));
    for (let run = 0; run < count; run++) {
      for (const tensor of Object.values(await runSession(session, tensors))) tensor.dispose();
    }
    session.endProfiling();
    await session.release();
    const written = path.join(folder, readdirSync(folder)[0] ?? '');
    const { arena, nodes } = await readProfile(written);
    const outside = nodes.reduce((sum, node) => sum + node.parameterBytes, 0) - sharedWeightExcess(nodes, model.graph);
    const all = nodesOf(written);
    const each = all.length / count;
    const mark = all[0]?.peak ?? NaN;
    // A mark above the first node's level was made while loading; one at that level may hide a lower one.
    const loading = mark > (all[0]?.inUse ?? NaN) ? mark : (arena.load ?? NaN);
    const cold = arena.cold ?? NaN;
    const level = Math.max(...all.slice(0, each).map(({ inUse }) => inUse));
    return {
      load: { low: loading + outside, high: mark + outside },
      cold: { low: (cold > mark ? cold : level) + outside, high: cold + outside },
      warm: { low: (arena.warm ?? NaN) + outside, high: (arena.peak ?? NaN) + outside },
      peak: (arena.peak ?? NaN) + outside,
      runs: Array.from({ length: count }, (_, run) => all.slice(run * each, (run + 1) * each)),
    };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
