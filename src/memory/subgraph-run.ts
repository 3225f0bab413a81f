import type { Allocation, Arena } from './arena.js';
import type { ControlRun, SizedPlan } from './simulate.js';

/** A body with the sizes of its values. */
export interface SizedBody extends SizedPlan {
  /** Names of its outputs in order. */
  readonly outputs: readonly string[];
  /** Whether the runtime knows the sizes of all outputs before it runs. */
  readonly fixedOutputs: boolean;
}

interface BodyTrace {
  /** Highest bytes in use. */
  peak: number;
  /** Buffers of the outputs by name; empty where the outputs are given from outside. */
  outputs: Map<string, Allocation>;
}

/**
 * One run of a body. It takes from the arena of the graph around it, without a memory pattern (onnxruntime 1.30 uses
 * none for bodies: each of its nodes takes and gives back in every run).
 * @param given called when the first output is made, for outputs that live outside; undefined = the body makes its own.
 */
function runBody(arena: Arena, body: SizedBody, given?: () => void): BodyTrace {
  const live = new Map<string, Allocation>();
  const trace: BodyTrace = { peak: arena.inUse, outputs: new Map() };
  const isOutput = new Set(body.outputs);
  let told = given === undefined;
  body.plan.steps.forEach((step, index) => {
    const early = (body.scratch[index]?.before ?? []).map((bytes) => arena.allocate(bytes));
    const allocate = () => {
      for (const { buffer } of step.allocates) {
        if (!isOutput.has(buffer)) live.set(buffer, arena.allocate(body.bytesOf(buffer)));
        else if (given === undefined) trace.outputs.set(buffer, arena.allocate(body.bytesOf(buffer)));
        else if (!told) {
          told = true;
          given();
        }
      }
    };
    const control = body.control?.get(index);
    if (control) trace.peak = Math.max(trace.peak, control(arena, allocate));
    else allocate();
    const taken = [...early, ...(body.scratch[index]?.after ?? []).map((bytes) => arena.allocate(bytes))];
    trace.peak = Math.max(trace.peak, arena.inUse + (body.scratch[index]?.past ?? 0));
    for (const allocation of taken) arena.free(allocation);
    for (const buffer of step.frees) {
      arena.free(live.get(buffer) ?? null);
      live.delete(buffer);
    }
  });
  if (!told) given?.();
  for (const allocation of live.values()) arena.free(allocation);
  return trace;
}

/**
 * The branch writes straight into the node's outputs, which are there before it runs when their sizes are known, else
 * from when the branch makes the first of them.
 */
export function simulateIf(branch: SizedBody): ControlRun {
  return (arena, allocateOutputs) => {
    if (!branch.fixedOutputs) return runBody(arena, branch, allocateOutputs).peak;
    allocateOutputs();
    return runBody(arena, branch, () => undefined).peak;
  };
}

/**
 * A round holds what the round before handed on; stacked outputs are kept one by one. At the end everything is copied
 * into the node's outputs while the pieces are still there.
 * @param carried number of body outputs that are handed on (the condition included).
 * @param followed rounds after which only the stacked pieces add up.
 */
export function simulateLoop(body: SizedBody, rounds: number, carried: number, followed: number): ControlRun {
  const stacked = body.outputs.slice(carried);
  return (arena, allocateOutputs) => {
    let peak = arena.inUse;
    // The number of the round and the condition, which small chunks hold all along.
    const counters = [arena.allocate(8), arena.allocate(1)];
    // What the round at hand was fed, and what it hands on; the former goes when the next round starts.
    let fed: Allocation[] = [];
    let handedOn: Allocation[] = [];
    const pieces: Allocation[] = [];
    for (let round = 0; round < Math.min(rounds, stacked.length > 0 ? mostPieces : followed); round += 1) {
      if (round >= followed) {
        for (const name of stacked) pieces.push(arena.allocate(body.bytesOf(name)));
        continue;
      }
      for (const allocation of fed) arena.free(allocation);
      fed = handedOn;
      handedOn = [];
      const trace = runBody(arena, body);
      peak = Math.max(peak, trace.peak);
      for (const [name, allocation] of trace.outputs) {
        if (stacked.includes(name)) pieces.push(allocation);
        else handedOn.push(allocation);
      }
    }
    allocateOutputs();
    peak = Math.max(peak, arena.inUse);
    for (const allocation of [...fed, ...handedOn, ...pieces, ...counters]) arena.free(allocation);
    return peak;
  };
}

/** Pieces simulated one by one; a loop that makes more is beyond what memory holds anyway. */
const mostPieces = 100_000;

/**
 * The outputs are there before the first round and written to in place; between rounds a state alternates between two
 * buffers of its own.
 */
export function simulateScan(
  body: SizedBody,
  rounds: number,
  stateBytes: readonly number[],
  followed: number,
): ControlRun {
  return (arena, allocateOutputs) => {
    allocateOutputs();
    const copies = Math.min(Math.max(rounds - 1, 0), 2);
    const states = stateBytes.flatMap((bytes) => Array.from({ length: copies }, () => arena.allocate(bytes)));
    let peak = arena.inUse;
    for (let round = 0; round < Math.min(rounds, followed); round += 1) {
      peak = Math.max(peak, runBody(arena, body, () => undefined).peak);
    }
    for (const allocation of states) arena.free(allocation);
    return peak;
  };
}
