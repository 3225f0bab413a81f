import { SnugError } from '../contract/errors.js';
import { entryPath } from './entry.js';
import { exitError } from './errors.js';
import type { RequestKind, RuntimeAnswers, RuntimeRequest } from './protocol.js';
import { runtimeEnv, type RuntimeProcess, type SpawnRuntime } from './spawn.js';

interface Waiting {
  resolve: (value: never) => void;
  reject: (error: SnugError) => void;
  onMark: () => Promise<void>;
}

export const cancelled = (): SnugError =>
  new SnugError('E_CANCELLED', 'The job was cancelled.', { action: 'Start it again when you like.' });

/**
 * One onnxruntime process seen from outside: requests go in, answers come out, and when the process ends
 * before it has answered, what waits gets an error that says how it ended.
 */
export class RuntimeJob {
  readonly #process: RuntimeProcess;
  readonly #waiting = new Map<number, Waiting>();
  #nextId = 1;
  /** Why nothing can be asked any more. */
  #ended: SnugError | null = null;
  readonly gone: Promise<void>;

  /**
   * @param env settings for this process besides those every one gets
   * @param onBase told what the process holds before any model is loaded
   */
  constructor(
    spawn: SpawnRuntime,
    env: Readonly<Record<string, string>> = {},
    onBase: (bytes: number) => void = () => undefined,
  ) {
    this.#process = spawn({ entry: entryPath('runtime-process'), env: { ...runtimeEnv(), ...env } });
    this.#process.channel.onMessage((message) => {
      if ('base' in message) {
        onBase(message.base);
        return;
      }
      const waiting = this.#waiting.get(message.id);
      if (!waiting) return;
      if ('mark' in message) {
        void waiting.onMark().finally(() => this.#process.channel.post({ id: message.id, proceed: true }));
        return;
      }
      this.#waiting.delete(message.id);
      if (message.ok) waiting.resolve(message.value as never);
      else waiting.reject(SnugError.fromReport(message.error));
    });
    this.gone = new Promise((resolve) => {
      this.#process.onExit((exit) => {
        this.#end(exitError(exit));
        resolve();
      });
    });
  }

  /** Process id; not known yet while another process is starting it. */
  get pid(): number | undefined {
    return this.#process.pid;
  }

  /** Asks; rejects with SnugError. `onMark` runs when a measurement is ready for its baseline. */
  ask<K extends RequestKind>(
    request: Extract<RuntimeRequest, { kind: K }>,
    onMark: () => Promise<void> = () => Promise.resolve(),
  ): Promise<RuntimeAnswers[K]> {
    const ended = this.#ended;
    if (ended) return Promise.reject(ended);
    const id = this.#nextId++;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject, onMark });
      this.#process.channel.post({ id, request });
    });
  }

  /** Ends the process at once; what waits rejects with `reason`. Resolves when the process is gone. */
  async kill(reason: SnugError): Promise<void> {
    this.#end(reason);
    this.#process.kill();
    await this.gone;
  }

  #end(reason: SnugError): void {
    this.#ended ??= reason;
    for (const waiting of this.#waiting.values()) waiting.reject(this.#ended);
    this.#waiting.clear();
  }
}
