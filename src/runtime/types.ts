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

/** Where in a file a value lies. */
export interface FileValue {
  name: string;
  dtype: 'float32';
  dims: number[];
  offset: number;
}

/** An output looked at as rows X of so many columns, all its axes but the last taken together. */
export interface ProductOf {
  /** float32. */
  output: string;
  columns: number;
}

export interface RuntimeSession {
  readonly inputs: RuntimeValue[];
  readonly outputs: RuntimeValue[];
  /** Runs once. `fetches` limits the outputs. Rejects with SnugError (E_RUN_FAILED, E_OUT_OF_MEMORY, E_ENGINE_KILLED…). */
  run(feeds: Feeds, fetches?: string[]): Promise<Feeds>;
  /**
   * Keeps input values in the process, where they are part of every later run until others are held under their
   * names: large inputs that seldom change cross the boundary once.
   */
  hold(values: Feeds): Promise<void>;
  /**
   * {@link hold} for values that lie in a file (little-endian, no headers), which is read once: they cross no boundary
   * and stand in memory once.
   * @throws SnugError E_FILE_CHANGED when the file ends too early
   */
  holdFile(path: string, values: readonly FileValue[]): Promise<void>;
  /**
   * Runs once and adds XᵀX of outputs, and the sums of their columns, to what earlier runs left in the process; only
   * `fetches` leave it.
   * @returns the fetches, and how many rows each product had
   */
  runProducts(
    feeds: Feeds,
    products: readonly ProductOf[],
    fetches: readonly string[],
  ): Promise<{ results: Feeds; rows: number[] }>;
  /**
   * Writes XᵀX of an output, summed over the runs so far, to a new file (row-major float32, little-endian, no header),
   * and forgets it.
   * @returns the sums of the columns
   * @throws SnugError E_BAD_REQUEST for an output without sums; E_DISK_FULL, E_WRITE_FAILED…
   */
  storeProducts(output: string, path: string): Promise<Float32Array>;
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
