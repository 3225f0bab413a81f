import { malformed, tooCostly } from './failures.js';

/** Bounds for hostile files. The defaults are far above any real model. */
export interface Limits {
  /** Graphs inside graphs; onnxruntime refuses deep nesting too. */
  depth: number;
  nodes: number;
  /** Initializers and attribute tensors. */
  tensors: number;
  /** Bytes of one name. */
  nameBytes: number;
  rank: number;
  /** Distinct external data files. */
  externalFiles: number;
  /** What the structure costs in memory: nodes, names, attributes, unknown fields, strings. Never weights. */
  retainedBytes: number;
}

export const defaultLimits: Limits = {
  depth: 64,
  nodes: 1_000_000,
  tensors: 1_000_000,
  nameBytes: 65_536,
  rank: 64,
  externalFiles: 4096,
  retainedBytes: 512 * 1024 * 1024,
};

/** Counts what a file asks for while it is parsed; the costs of objects are what V8 takes for them, rounded. */
export class Budget {
  #nodes = 0;
  #tensors = 0;
  #retained = 0;

  readonly limits: Limits;

  constructor(limits: Limits) {
    this.limits = limits;
  }

  node(): void {
    if (++this.#nodes > this.limits.nodes) throw tooCostly(`more than ${this.limits.nodes} nodes.`);
    this.retain(600);
  }

  tensor(): void {
    if (++this.#tensors > this.limits.tensors) throw tooCostly(`more than ${this.limits.tensors} tensors.`);
    this.retain(400);
  }

  retain(bytes: number): void {
    this.#retained += bytes;
    if (this.#retained > this.limits.retainedBytes) {
      throw tooCostly(`its structure without weights is larger than ${this.limits.retainedBytes} bytes.`);
    }
  }

  /** A piece of bytes kept as it is: the array around it costs more than a short content. */
  piece(bytes: number): void {
    this.retain(bytes + 200);
  }

  name(bytes: number): void {
    if (bytes > this.limits.nameBytes) throw malformed(`a name has ${bytes} bytes.`);
    // A string of its own costs more than its bytes; 32 keeps empty names from being free.
    this.retain(bytes + 32);
  }

  depth(depth: number): void {
    if (depth > this.limits.depth) throw tooCostly(`graphs nested deeper than ${this.limits.depth}.`);
  }
}
