import { mkdir, open, readFile, rename, rm } from 'node:fs/promises';
import path from 'node:path';
import * as v from 'valibot';
import { SnugError } from '../contract/errors.js';
import { errnoOf } from '../onnx/failures.js';
import { writeError } from '../onnx/output.js';
import { runtimeDtype } from './arrays.js';
import { assertAbsent, NpyWriter } from './npy-writer.js';
import { lockOutput } from './output-lock.js';
import type { Feeds, RuntimeDtype } from './types.js';

export interface StreamOutputOptions {
  /** A .npy file for one output; a folder for one .npy file per output. */
  target: string;
  folder: boolean;
  overwrite: boolean;
  /**
   * Identifies the work (model, data set, settings). With it the rows written so far outlive the process, and
   * the same work goes on behind them.
   */
  resumeKey?: string | undefined;
  /** Drops what an earlier start has left. */
  restart?: boolean | undefined;
}

const stateSchema = v.object({
  version: v.literal(1),
  key: v.string(),
  batch: v.pipe(v.number(), v.integer(), v.minValue(1)),
  done: v.pipe(v.number(), v.integer(), v.minValue(1)),
  halvings: v.pipe(v.number(), v.integer(), v.minValue(0)),
  outputs: v.array(
    v.object({ name: v.string(), dtype: v.string(), rowDims: v.array(v.pipe(v.number(), v.integer(), v.minValue(0))) }),
  ),
});
type State = v.InferOutput<typeof stateSchema>;

/** Where earlier work stopped. */
export type ResumePoint = Pick<State, 'batch' | 'done' | 'halvings'>;

interface Writer {
  npy: NpyWriter;
  dtype: RuntimeDtype;
  rowDims: readonly number[];
}

/** The .npy files of a streamed run: they appear together at the end, and can be gone on with after a kill. */
export class StreamOutput {
  readonly #options: StreamOutputOptions;
  readonly #writers = new Map<string, Writer>();
  readonly #unlock: () => Promise<void>;

  private constructor(options: StreamOutputOptions, unlock: () => Promise<void>) {
    this.#options = options;
    this.#unlock = unlock;
  }

  /**
   * @returns the output, and where an earlier start of the same work stopped
   * @throws SnugError E_EXISTS when the output is there, or unfinished work of another kind or of a process at work is
   */
  static async open(options: StreamOutputOptions): Promise<{ output: StreamOutput; resume: ResumePoint | null }> {
    if (!options.overwrite) await assertAbsent(options.target);
    const unlock = await lockOutput(options.target);
    try {
      return await StreamOutput.#openLocked(new StreamOutput(options, unlock), options);
    } catch (error) {
      await unlock();
      throw error;
    }
  }

  static async #openLocked(
    output: StreamOutput,
    options: StreamOutputOptions,
  ): Promise<{ output: StreamOutput; resume: ResumePoint | null }> {
    if (options.restart === true || options.resumeKey === undefined) {
      await rm(output.#stateFile(), { force: true });
      return { output, resume: null };
    }
    const state = await output.#readState();
    if (state === null) return { output, resume: null };
    if (state.key !== options.resumeKey) {
      throw new SnugError('E_EXISTS', `Unfinished work for ${path.basename(options.target)} is there already.`, {
        action: 'It is of another model, data set or setting: begin again with --restart, or choose another output.',
        params: { path: options.target },
      });
    }
    for (const { name, dtype, rowDims } of state.outputs) {
      await output.#create(name, runtimeDtype(dtype) ?? 'float32', rowDims, state.done);
    }
    return { output, resume: state };
  }

  /** Appends the rows of one batch to each output. @throws SnugError E_DATA_SHAPE when an axis cannot be a row */
  async append(outputs: Feeds, count: number): Promise<void> {
    for (const [name, tensor] of Object.entries(outputs)) {
      if (tensor.dims[0] !== count) {
        throw new SnugError(
          'E_DATA_SHAPE',
          `The output "${name}" has the shape ${shape(tensor.dims)} for ${count} samples.`,
          {
            action: 'Choose an output whose first axis counts samples (--output-name).',
            params: { output: name, dims: shape(tensor.dims), samples: count },
          },
        );
      }
      const rowDims = tensor.dims.slice(1);
      const writer = this.#writers.get(name) ?? (await this.#create(name, tensor.dtype, rowDims));
      if (shape(writer.rowDims) !== shape(rowDims)) {
        throw new SnugError(
          'E_DATA_SHAPE',
          `One sample gave ${shape(rowDims)}, earlier ones gave ${shape(writer.rowDims)}.`,
          {
            action: 'Choose an output whose shape does not depend on the values of the data.',
          },
        );
      }
      await writer.npy.append(tensor.data, count);
    }
  }

  /** From now on a killed process loses nothing before `point.done`. Without a key nothing is kept. */
  async checkpoint(point: ResumePoint): Promise<void> {
    const { resumeKey, target } = this.#options;
    if (resumeKey === undefined) return;
    for (const { npy } of this.#writers.values()) await npy.sync();
    const state: State = {
      version: 1,
      key: resumeKey,
      ...point,
      outputs: [...this.#writers].map(([name, { dtype, rowDims }]) => ({ name, dtype, rowDims: [...rowDims] })),
    };
    const file = this.#stateFile();
    try {
      // Written beside and renamed: a kill leaves the state before or the one after.
      const handle = await open(`${file}.new`, 'w');
      await handle.writeFile(JSON.stringify(state));
      await handle.datasync();
      await handle.close();
      await rename(`${file}.new`, file);
    } catch (cause) {
      throw writeError(cause, target);
    }
  }

  async finish(): Promise<void> {
    for (const { npy } of this.#writers.values()) await npy.finish();
    await rm(this.#stateFile(), { force: true });
    await this.#unlock();
  }

  /** Leaves the rows for the next start of the same work. */
  async suspend(): Promise<void> {
    for (const { npy } of this.#writers.values()) await npy.suspend();
    await this.#unlock();
  }

  async abort(): Promise<void> {
    for (const { npy } of this.#writers.values()) await npy.abort();
    await rm(this.#stateFile(), { force: true });
    await rm(`${this.#stateFile()}.new`, { force: true });
    await this.#unlock();
  }

  async #create(name: string, dtype: RuntimeDtype, rowDims: readonly number[], resumeAt?: number): Promise<Writer> {
    const { folder, target, overwrite } = this.#options;
    if (folder) {
      await mkdir(target, { recursive: true }).catch((cause: unknown) => {
        throw writeError(cause, target);
      });
    }
    const npy = await NpyWriter.create(this.#fileOf(name), dtype, rowDims, {
      overwrite,
      ...(resumeAt === undefined ? {} : { resumeAt }),
    });
    const writer = { npy, dtype, rowDims };
    this.#writers.set(name, writer);
    return writer;
  }

  /** Names of values may hold anything; those of files may not. */
  #fileOf(name: string): string {
    const { folder, target } = this.#options;
    if (!folder) return target;
    return path.join(target, `${name.replace(/[^\w.-]/gu, '_').replace(/^\.+/u, '_')}.npy`);
  }

  #stateFile(): string {
    const { target } = this.#options;
    return path.join(path.dirname(path.resolve(target)), `.${path.basename(target)}.snug-resume.json`);
  }

  async #readState(): Promise<State | null> {
    try {
      return v.parse(stateSchema, JSON.parse(await readFile(this.#stateFile(), 'utf8')));
    } catch (thrown) {
      if (errnoOf(thrown) === 'ENOENT') return null;
      throw new SnugError(
        'E_FILE_CHANGED',
        `The notes about unfinished work for ${path.basename(this.#options.target)} are damaged.`,
        {
          action: 'Begin again (--restart).',
          params: { path: this.#options.target },
          details: String(thrown),
        },
      );
    }
  }
}

const shape = (dims: readonly number[]): string => `[${dims.join(', ')}]`;
