import type { Measurement, Provider, SessionLevers } from '../contract/types.js';

/** Element types that cross the boundary to onnxruntime-node. */
export type RuntimeDtype =
  | 'float32'
  | 'float16'
  | 'float64'
  | 'int8'
  | 'uint8'
  | 'int16'
  | 'uint16'
  | 'int32'
  | 'uint32'
  | 'int64'
  | 'uint64'
  | 'bool';

export type RuntimeArray =
  | Float32Array
  | Float64Array
  | Int8Array
  | Uint8Array
  | Int16Array
  | Uint16Array
  | Int32Array
  | Uint32Array
  | BigInt64Array
  | BigUint64Array;

/** Dense tensor, row-major. float16 data is carried as its bit patterns in a Uint16Array. */
export interface RuntimeTensor {
  dtype: RuntimeDtype;
  dims: number[];
  data: RuntimeArray;
}

export type Feeds = Record<string, RuntimeTensor>;

export interface SessionSpec {
  modelPath: string;
  provider: Provider;
  levers?: Partial<SessionLevers>;
  /** Default 'all'. */
  graphOptimization?: 'disabled' | 'basic' | 'extended' | 'layout' | 'all';
  threads?: number;
  /** On the CPU: little memory before speed (weights are not packed a second time, nothing is planned ahead or kept). */
  lean?: boolean;
}

export interface RuntimeValue {
  name: string;
  dtype: string;
  dims: (number | string)[];
  /** The model does not say how many axes it has; `dims` is empty then. */
  anyShape?: boolean;
}

/**
 * Output → input: outputs that stay in the process, each held as the value of an input for the next run (sums over
 * runs, states).
 */
export type Carry = Readonly<Record<string, string>>;

export interface RuntimeSession {
  readonly inputs: RuntimeValue[];
  readonly outputs: RuntimeValue[];
  /** Runs once. `fetches` limits the outputs. Rejects with SnugError (E_RUN_FAILED, E_OUT_OF_MEMORY, E_ENGINE_KILLED…). */
  run(feeds: Feeds, fetches?: string[], carry?: Carry): Promise<Feeds>;
  /**
   * Keeps input values in the process, where they are part of every later run until others are held under their
   * names: large inputs that seldom change cross the boundary once.
   */
  hold(values: Feeds): Promise<void>;
  /**
   * Writes held values to a new file, one behind the other as they lie in memory (little-endian, no headers).
   * @throws SnugError E_BAD_REQUEST for a name nothing is held under; E_DISK_FULL, E_WRITE_FAILED…
   */
  store(names: readonly string[], path: string): Promise<void>;
  close(): Promise<void>;
}

/** What the engine rooms may ask of onnxruntime; implemented by a client of a separate process. */
export interface Runtime {
  /** Providers this installation really has (found by asking the runtime). */
  providers(): Promise<Provider[]>;
  open(spec: SessionSpec): Promise<RuntimeSession>;
  /**
   * Loads, runs `1 + warmRuns` times with profiling on, and reads peak memory, latency and node placement
   * back. Always in a fresh process.
   */
  measure(spec: SessionSpec, feeds: Feeds, options: { warmRuns: number; batch: number }): Promise<Measurement>;
  /** Ends every process this runtime started. Safe to call twice. */
  close(): Promise<void>;
}
