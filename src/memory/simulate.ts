import type { Arena } from './arena.js';
import { type Allocation } from './arena.js';
import type { PatternPlanner } from './pattern.js';
import type { MemoryPlan } from './plan.js';
import type { Scratch } from './workspace.js';

/**
 * Runs the bodies of a control-flow node in the arena and calls `allocateOutputs` once, when the node makes its
 * outputs; returns the highest bytes in use.
 */
export type ControlRun = (arena: Arena, allocateOutputs: () => void) => number;

/** Bytes of values and scratch for one set of sizes. */
export interface SizedPlan {
  plan: MemoryPlan;
  /** Bytes of a buffer; 0 when unknown. */
  bytesOf: (buffer: string) => number;
  /** Scratch of each step; given back when the step ends. */
  scratch: readonly Scratch[];
  /** Steps that run bodies (If, Loop, Scan). */
  control?: ReadonlyMap<number, ControlRun>;
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
export function runDynamic(
  arena: Arena,
  { plan, bytesOf, scratch, control }: SizedPlan,
  pattern?: PatternPlanner,
): RunTrace {
  const live = new Map<string, Allocation>();
  const offsets = new Map<string, number>();
  const trace: RunTrace = { live: [], high: [], peakStep: 0, peak: 0 };
  plan.steps.forEach((step, index) => {
    const early = take(arena, scratch[index]?.before);
    const allocate = () => {
      for (const { buffer, kind } of step.allocates) {
        const bytes = bytesOf(buffer);
        live.set(buffer, arena.allocate(bytes));
        if (pattern && kind === 'allocated' && bytes > 0) offsets.set(buffer, pattern.allocate(bytes));
      }
    };
    const inside = withBodies(arena, allocate, control?.get(index));
    const taken = [...early, ...take(arena, scratch[index]?.after)];
    endStep(arena, taken, trace, Math.max(arena.inUse + (scratch[index]?.past ?? 0), inside));
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
export function runPattern(
  arena: Arena,
  { plan, bytesOf, scratch, control }: SizedPlan,
  patternBytes: number,
): RunTrace {
  const block = arena.allocate(patternBytes);
  const outputs: Allocation[] = [];
  const trace: RunTrace = { live: [], high: [], peakStep: 0, peak: 0 };
  plan.steps.forEach((step, index) => {
    const early = take(arena, scratch[index]?.before);
    const allocate = () => {
      for (const { buffer, kind } of step.allocates)
        if (kind === 'graph-output') outputs.push(arena.allocate(bytesOf(buffer)));
    };
    const inside = withBodies(arena, allocate, control?.get(index));
    const taken = [...early, ...take(arena, scratch[index]?.after)];
    endStep(arena, taken, trace, Math.max(arena.inUse + (scratch[index]?.past ?? 0), inside));
  });
  arena.free(block);
  for (const output of outputs) arena.free(output);
  return trace;
}

function take(arena: Arena, sizes: readonly number[] = []): Allocation[] {
  return sizes.map((bytes) => arena.allocate(bytes));
}

/** Makes a step's outputs, within the run of its bodies if it has any; returns the highest bytes in use inside those. */
function withBodies(arena: Arena, allocate: () => void, control: ControlRun | undefined): number {
  if (control) return control(arena, allocate);
  allocate();
  return 0;
}

/** Gives the kernel's scratch back and notes the level without it, and the highest bytes in use within the step. */
function endStep(arena: Arena, taken: readonly Allocation[], trace: RunTrace, high: number): void {
  for (const allocation of taken) arena.free(allocation);
  trace.live.push(arena.inUse);
  trace.high.push(high);
  if (high > trace.peak) {
    trace.peak = high;
    trace.peakStep = trace.high.length - 1;
  }
}
