import type { ErrorReport } from '../contract/errors.js';
import { SnugError } from '../contract/errors.js';
import type { BatchSweep } from '../contract/throughput.js';
import type { JobProgress, PruneCurve } from '../contract/types.js';
import { entryPath } from '../runtime/entry.js';
import type { SpawnRequest, SpawnRuntime, StartedProcess } from '../runtime/spawn.js';
import { runtimeEnv } from '../runtime/spawn.js';
import type { EngineAnswers, EngineRequest, FromEngine, ToEngine } from './engine-protocol.js';
import { RelayHost } from './relay.js';
import type { TrainingNews } from './training-run.js';

export type SpawnEngine = (request: SpawnRequest) => StartedProcess<ToEngine, FromEngine>;

/** Told what an engine says while it works. */
export interface EngineListeners {
  onProgress?: (progress: JobProgress) => void;
  onCurve?: (curve: PruneCurve) => void;
  onSweep?: (sweep: BatchSweep) => void;
  onTraining?: (news: TrainingNews) => void;
}

export interface EngineClientOptions extends EngineListeners {
  spawn: SpawnEngine;
  /** Given when engines may not start processes: the door starts onnxruntime for them. */
  spawnRuntime?: SpawnRuntime;
}

type Answer = EngineAnswers[keyof EngineAnswers];

/** One engine process as its door sees it. */
export class EngineClient {
  private readonly child: StartedProcess<ToEngine, FromEngine>;
  private readonly relay: RelayHost | null;
  private readonly waiting = new Map<
    number,
    { resolve: (value: Answer) => void; reject: (error: SnugError) => void }
  >();
  private readonly grandchildren = new Set<number>();
  /** Runtime processes that are ready for a model → bytes they hold without one. */
  readonly runtimes = new Map<number, number>();
  private lastId = 0;
  private ended: SnugError | null = null;
  private killed = false;
  /** Resolves when the process is really gone. */
  readonly exited: Promise<void>;

  constructor(private readonly options: EngineClientOptions) {
    this.child = options.spawn({ entry: entryPath('engine-process'), env: runtimeEnv() });
    this.relay = options.spawnRuntime
      ? new RelayHost(options.spawnRuntime, (message) => this.child.channel.post(message))
      : null;
    this.child.channel.onMessage((message) => this.receive(message));
    this.exited = new Promise((resolve) => {
      this.child.onExit(({ code, signal, stderr }) => {
        this.killGrandchildren();
        this.end(this.killed ? stopped() : died(code, signal, stderr));
        resolve();
      });
    });
  }

  /** Asks once; rejects with what the engine threw, or E_ENGINE_KILLED / E_ENGINE_CRASHED when it dies. */
  ask<R extends EngineRequest>(request: R): Promise<EngineAnswers[R['kind']]> {
    if (this.ended) return Promise.reject(this.ended);
    const id = ++this.lastId;
    return new Promise((resolve, reject) => {
      this.waiting.set(id, { resolve: resolve as (value: Answer) => void, reject });
      this.child.channel.post({ id, request, relayed: this.relay !== null });
    });
  }

  /** Asks the engine to stop and keep the best it has; the answer comes through the pending `ask`. */
  requestStop(): void {
    this.child.channel.post({ stop: true });
  }

  /** Ends the engine and all it started, at once. */
  kill(): void {
    this.killed = true;
    this.killGrandchildren();
    this.child.kill();
    this.end(stopped());
  }

  private receive(message: FromEngine): void {
    if ('progress' in message) this.options.onProgress?.(message.progress);
    else if ('curve' in message) this.options.onCurve?.(message.curve);
    else if ('sweep' in message) this.options.onSweep?.(message.sweep);
    else if ('training' in message) this.options.onTraining?.(message.training);
    else if ('started' in message) this.grandchildren.add(message.started);
    else if ('base' in message) this.runtimes.set(message.base.pid, message.base.bytes);
    else if ('gone' in message) {
      this.grandchildren.delete(message.gone);
      this.runtimes.delete(message.gone);
    } else if ('relay' in message) this.relay?.receive(message);
    else {
      const waiter = this.waiting.get(message.id);
      this.waiting.delete(message.id);
      if (message.ok) waiter?.resolve(message.value);
      else waiter?.reject(SnugError.fromReport(message.error));
    }
  }

  private killGrandchildren(): void {
    this.relay?.killAll();
    // A run inside onnxruntime cannot hear that its caller is gone, so it is ended from here.
    for (const pid of this.grandchildren) {
      try {
        process.kill(pid, 'SIGKILL');
      } catch {
        // Gone already.
      }
    }
    this.grandchildren.clear();
  }

  private end(error: SnugError): void {
    this.ended ??= error;
    for (const { reject } of this.waiting.values()) reject(this.ended);
    this.waiting.clear();
  }
}

function stopped(): SnugError {
  return new SnugError('E_CANCELLED', 'Stopped. Nothing was changed.', { action: 'Start again whenever you like.' });
}

function died(code: number | null, signal: string | null, stderr: string): SnugError {
  const details = [`exit code ${code ?? 'none'}, signal ${signal ?? 'none'}`, stderr].filter(Boolean).join('\n');
  const action = 'Your original file was not changed. Try again; with a smaller budget if memory was short.';
  const killedOutside: Pick<ErrorReport, 'code' | 'message'> = {
    code: 'E_ENGINE_KILLED',
    message: `The engine process was ended from outside (${signal ?? 'unknown signal'}).`,
  };
  const crashed: Pick<ErrorReport, 'code' | 'message'> = {
    code: 'E_ENGINE_CRASHED',
    message: 'The engine process ended unexpectedly.',
  };
  const outcome = signal === 'SIGKILL' || signal === 'SIGTERM' ? killedOutside : crashed;
  return new SnugError(outcome.code, outcome.message, { action, details });
}
