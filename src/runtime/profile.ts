import { createReadStream } from 'node:fs';
import { createInterface } from 'node:readline';
import { SnugError } from '../contract/errors.js';

/** What one profiled node says about itself; the same in every run unless noted. */
export interface ProfiledNode {
  name: string;
  operator: string;
  provider: string;
  /** Bytes of constant inputs that are still held as they are (0 once the kernel has packed them). */
  parameterBytes: number;
  /** Largest seen in any run. */
  outputBytes: number;
  activationBytes: number;
  /** Types of the inputs as the runtime names them (`float`, `int64`…). */
  inputTypes: string[];
}

/** Allocator levels of the arena, bytes. `null` where the provider keeps no such counters. */
export interface ArenaLevels {
  /** In use after loading, before the first run. */
  load: number | null;
  /** High-water mark at the end of the first run. */
  cold: number | null;
  /** Highest level of the later runs. */
  warm: number | null;
  /** High-water mark since the arena was made. */
  peak: number | null;
}

export interface Profile {
  nodes: ProfiledNode[];
  runs: number;
  arena: ArenaLevels;
}

interface NodeEvent {
  cat: 'Node';
  name: string;
  args: Record<string, unknown>;
}

const suffix = '_kernel_time';
const cpuProvider = 'CPUExecutionProvider';

/**
 * Gathers a profile of onnxruntime 1.30 event by event. Node events of a run are written before the
 * `model_run` event that closes it.
 *
 * The counters of a node are those of its provider's arena, read after the kernel ran and before dead inputs
 * are freed: `mem_bytes_in_use` (chunks in use plus what kernels packed), `mem_in_use_peak` (its high-water
 * mark since the arena was made) and `mem_in_use_delta` (change across this node). Only the CPU's counters
 * are read here: other providers keep none or keep them in an arena of their own.
 */
export class ProfileReader {
  readonly #nodes = new Map<string, ProfiledNode>();
  #runs = 0;
  #load: number | null = null;
  #cold: number | null = null;
  #peak: number | null = null;
  #warmInUse: number | null = null;

  /** One line of the file: an event with its trailing comma, or a bracket. */
  addLine(line: string): void {
    const text = line.trim().replace(/,$/, '');
    if (!text.startsWith('{')) return;
    let event: unknown;
    try {
      event = JSON.parse(text);
    } catch (cause) {
      throw new SnugError('E_INTERNAL', 'The profile that the runtime wrote cannot be read.', {
        action: 'Please report this with the details below.',
        details: text.slice(0, 200),
        cause,
      });
    }
    if (isNodeEvent(event)) this.#addNode(event);
    else if (isRunEvent(event)) this.#runs += 1;
  }

  result(): Profile {
    const peak = this.#peak;
    const rose = peak !== null && this.#cold !== null && peak > this.#cold;
    return {
      nodes: [...this.#nodes.values()],
      runs: this.#runs,
      arena: { load: this.#load, cold: this.#cold, warm: rose ? peak : this.#warmInUse, peak },
    };
  }

  #addNode(event: NodeEvent): void {
    if (!event.name.endsWith(suffix)) return;
    const { args } = event;
    const provider = String(args.provider ?? '');
    const key = `${String(args.node_index)}\n${event.name}`;
    const outputBytes = count(args.output_size) ?? 0;
    const activationBytes = count(args.activation_size) ?? 0;
    const known = this.#nodes.get(key);
    if (known) {
      known.outputBytes = Math.max(known.outputBytes, outputBytes);
      known.activationBytes = Math.max(known.activationBytes, activationBytes);
    } else {
      this.#nodes.set(key, {
        name: event.name.slice(0, -suffix.length),
        operator: String(args.op_name ?? ''),
        provider,
        parameterBytes: count(args.parameter_size) ?? 0,
        outputBytes,
        activationBytes,
        inputTypes: typeNames(args.input_type_shape),
      });
    }
    if (provider === cpuProvider) this.#addLevels(args);
  }

  #addLevels(args: Record<string, unknown>): void {
    const inUse = count(args.mem_bytes_in_use);
    const peak = count(args.mem_in_use_peak);
    if (inUse === null || peak === null) return;
    this.#load ??= inUse - (count(args.mem_in_use_delta) ?? 0);
    this.#peak = Math.max(this.#peak ?? 0, peak);
    if (this.#runs === 0) this.#cold = this.#peak;
    else this.#warmInUse = Math.max(this.#warmInUse ?? 0, inUse);
  }
}

/** Reads a profile file line by line: it can be far larger than memory should hold. */
export async function readProfile(path: string): Promise<Profile> {
  const reader = new ProfileReader();
  const lines = createInterface({ input: createReadStream(path, 'utf8'), crlfDelay: Infinity });
  for await (const line of lines) reader.addLine(line);
  return reader.result();
}

function isNodeEvent(event: unknown): event is NodeEvent {
  if (typeof event !== 'object' || event === null) return false;
  const { cat, name, args } = event as Partial<NodeEvent>;
  return cat === 'Node' && typeof name === 'string' && typeof args === 'object';
}

function isRunEvent(event: unknown): boolean {
  const { cat, name } = (event ?? {}) as { cat?: unknown; name?: unknown };
  return cat === 'Session' && name === 'model_run';
}

/** Counters are written as decimal strings. */
function count(value: unknown): number | null {
  if (typeof value !== 'string' && typeof value !== 'number') return null;
  const result = Number(value);
  return Number.isFinite(result) ? result : null;
}

/** `[{"float":[32,64]},{"int64":[]}]` → `['float', 'int64']`. */
function typeNames(value: unknown): string[] {
  if (!Array.isArray(value)) return [];
  return value.flatMap((entry: unknown) => (typeof entry === 'object' && entry !== null ? Object.keys(entry) : []));
}
