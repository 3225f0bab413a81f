import type { Arena } from './arena.js';
import { type Allocation } from './arena.js';
import type { PatternPlanner } from './pattern.js';
import type { MemoryPlan } from './plan.js';
import type { Scratch } from './workspace.js';

/** Bytes of values and scratch for one set of sizes. */
export interface SizedPlan {
  plan: MemoryPlan;
  /** Bytes of a buffer; 0 when unknown. */
  bytesOf: (buffer: string) => number;
  /** Scratch of each step; given back when the step ends. */
  scratch: readonly Scratch[];
}

export interface RunTrace {
  /** Bytes in use at the end of each step, before dead buffers are freed. */
  live: number[];
  /** Highest bytes in use within each step (scratch included). */
  high: number[];
  /** Step with the highest bytes in use. */
  peakStep: number;
  peak: number;
}

/** One run that allocates each buffer when its node runs (first run, or memory pattern off). */
export function runDynamic(arena: Arena, { plan, bytesOf, scratch }: SizedPlan, pattern?: PatternPlanner): RunTrace {
  const live = new Map<string, Allocation>();
  const offsets = new Map<string, number>();
  const trace: RunTrace = { live: [], high: [], peakStep: 0, peak: 0 };
  plan.steps.forEach((step, index) => {
    const early = take(arena, scratch[index]?.before);
    for (const { buffer, kind } of step.allocates) {
      const bytes = bytesOf(buffer);
      live.set(buffer, arena.allocate(bytes));
      if (pattern && kind === 'allocated' && bytes > 0) offsets.set(buffer, pattern.allocate(bytes));
    }
    endStep(arena, [...early, ...take(arena, scratch[index]?.after)], trace, index);
    for (const buffer of step.frees) {
      arena.free(live.get(buffer) ?? null);
      live.delete(buffer);
      const offset = offsets.get(buffer);
      if (offset !== undefined) pattern?.free(offset);
    }
  });
  for (const allocation of live.values()) arena.free(allocation);
  return trace;
}

/** A later run: one block of the recorded size, graph outputs and scratch beside it. */
export function runPattern(arena: Arena, { plan, bytesOf, scratch }: SizedPlan, patternBytes: number): RunTrace {
  const block = arena.allocate(patternBytes);
  const outputs: Allocation[] = [];
  const trace: RunTrace = { live: [], high: [], peakStep: 0, peak: 0 };
  plan.steps.forEach((step, index) => {
    const early = take(arena, scratch[index]?.before);
    for (const { buffer, kind } of step.allocates)
      if (kind === 'graph-output') outputs.push(arena.allocate(bytesOf(buffer)));
    endStep(arena, [...early, ...take(arena, scratch[index]?.after)], trace, index);
  });
  arena.free(block);
  for (const output of outputs) arena.free(output);
  return trace;
}

function take(arena: Arena, sizes: readonly number[] = []): Allocation[] {
  return sizes.map((bytes) => arena.allocate(bytes));
}

/** Reads the levels with and without the kernel's scratch, which is given back. */
function endStep(arena: Arena, taken: readonly Allocation[], trace: RunTrace, step: number): void {
  const high = arena.inUse;
  for (const allocation of taken) arena.free(allocation);
  trace.live.push(arena.inUse);
  trace.high.push(high);
  if (high > trace.peak) {
    trace.peak = high;
    trace.peakStep = step;
  }
}
