import type { Node } from '../onnx/model.js';
import { dataTypeBits } from '../onnx/tensor.js';
import type { ShapeResult } from '../onnx/shape.js';
import { reusedInputs, type BufferRules } from './inplace.js';
import { valuesRead } from './order.js';

/** How the buffer of a value comes to be. */
export type BufferKind = 'allocated' | 'graph-output';

export interface PlannedStep {
  node: Node;
  /** Buffers this node makes, in output order. */
  allocates: { buffer: string; kind: BufferKind }[];
  /** Buffers nobody needs after this node. Graph outputs stay until the run ends. */
  frees: string[];
}

export interface MemoryPlan {
  steps: PlannedStep[];
  /** Value → the value whose buffer holds it (itself when it has its own). */
  buffers: Map<string, string>;
}

interface PlanInput {
  /** In execution order. */
  nodes: readonly Node[];
  graphInputs: ReadonlySet<string>;
  graphOutputs: ReadonlySet<string>;
  initializers: ReadonlySet<string>;
  shapes: Pick<ShapeResult, 'shapes' | 'symbols'>;
  rules: BufferRules;
}

/** Whether two values have the same size as far as a planner that compares names can tell. */
function sameSize(a: string, b: string, { shapes, symbols }: Pick<ShapeResult, 'shapes' | 'symbols'>): boolean {
  const first = symbols.get(a);
  const second = symbols.get(b);
  if (!first || !second || first.length !== second.length) return false;
  const bits = (name: string) => dataTypeBits(shapes.get(name)?.dataType ?? 0);
  if (bits(a) !== bits(b) || !bits(a)) return false;
  return first.every((dim, axis) => dim !== null && dim !== '' && dim === second[axis]);
}

function countUses(input: PlanInput): Map<string, number> {
  const uses = new Map<string, number>();
  const add = (name: string) => name !== '' && uses.set(name, (uses.get(name) ?? 0) + 1);
  for (const name of [...input.graphInputs, ...input.initializers, ...input.graphOutputs]) add(name);
  for (const node of input.nodes) for (const name of [...valuesRead(node), ...node.outputs]) add(name);
  return uses;
}

/**
 * Decides which values share a buffer, as ONNX Runtime's sequential planner does: aliases and in-place
 * operators first, then any dead buffer of the same symbolic size, last freed first. A shared buffer lives
 * until its last user, so sharing can also cost memory.
 */
export function planBuffers(input: PlanInput): MemoryPlan {
  const uses = countUses(input);
  const buffers = new Map<string, string>();
  const root = (name: string) => buffers.get(name) ?? name;
  const useCount = (name: string) => uses.get(root(name)) ?? 0;
  const dead: string[] = [];
  const kinds = new Map<string, BufferKind>();
  const allocated: string[][] = [];

  const share = (name: string, buffer: string) => {
    const owner = root(buffer);
    buffers.set(name, owner);
    uses.set(owner, (uses.get(owner) ?? 0) + (uses.get(name) ?? 0));
  };
  const findDead = (name: string): string | undefined => {
    if ((input.shapes.symbols.get(name)?.length ?? 0) === 0) return undefined;
    const at = dead.findIndex((buffer) => sameSize(buffer, name, input.shapes));
    return at < 0 ? undefined : dead.splice(at, 1)[0];
  };

  for (const node of input.nodes) {
    const own: string[] = [];
    node.outputs.forEach((name, index) => {
      if (name === '') return;
      const allocate = (kind: BufferKind) => {
        buffers.set(name, name);
        kinds.set(name, kind);
        own.push(name);
      };
      if (input.graphOutputs.has(name)) return allocate('graph-output');
      const { alias, inPlace } = reusedInputs(node, index, input.rules);
      if (alias !== null) return share(name, alias);
      const candidate = inPlace.find((value) => useCount(value) === 1 && sameSize(value, name, input.shapes));
      if (candidate !== undefined) return share(name, candidate);
      const free = findDead(name);
      if (free !== undefined) share(name, free);
      else allocate('allocated');
    });
    allocated.push(own);
    for (const name of [...valuesRead(node), ...node.outputs]) {
      if (name === '') continue;
      const owner = root(name);
      const left = (uses.get(owner) ?? 0) - 1;
      uses.set(owner, left);
      if (left === 0) dead.unshift(owner);
    }
  }
  return { steps: withFrees(input, buffers, allocated, kinds), buffers };
}

/** Adds to each step the buffers whose last user it is. */
function withFrees(
  input: PlanInput,
  buffers: Map<string, string>,
  allocated: string[][],
  kinds: Map<string, BufferKind>,
): PlannedStep[] {
  const lastUse = new Map<string, number>();
  input.nodes.forEach((node, step) => {
    for (const name of [...valuesRead(node), ...node.outputs]) {
      const owner = buffers.get(name);
      if (owner !== undefined) lastUse.set(owner, step);
    }
  });
  const frees: string[][] = input.nodes.map(() => []);
  for (const [owner, step] of lastUse) if (kinds.get(owner) === 'allocated') frees[step]?.push(owner);
  return input.nodes.map((node, step) => ({
    node,
    allocates: (allocated[step] ?? []).map((buffer) => ({ buffer, kind: kinds.get(buffer) ?? 'allocated' })),
    frees: frees[step] ?? [],
  }));
}
