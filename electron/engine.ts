import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { app, type Details, utilityProcess } from 'electron';
import { calibratesByItself } from '../src/app/accuracy/calibrator.js';
import type { AccuracyStore } from '../src/app/accuracy/store.js';
import type { EngineService } from '../src/app/engine-service.js';
import { createEngineService } from '../src/app/service.js';
import type { TrainingStore } from '../src/app/training-store.js';
import type { SpawnRequest, StartedProcess } from '../src/runtime/spawn.js';

const stderrLimit = 16_384;
/** How long `child-process-gone`, which knows why, may come after `exit`, which only knows that. */
const goneGraceMs = 250;

let started = 0;
const living = new Map<string, () => void>();

/**
 * Starts one of Snug's processes as an Electron utility process: the counterpart of the plain fork that the
 * other doors use, with the same promises (own empty working directory, given environment only, one exit).
 */
export function forkUtility<Out extends object, In>({ entry, env }: SpawnRequest): StartedProcess<Out, In> {
  const directory = mkdtempSync(path.join(tmpdir(), 'snug-run-'));
  // A name of its own pairs the two events that tell how the process ended.
  const serviceName = `Snug engine ${(started += 1)}`;
  const child = utilityProcess.fork(entry, [], { cwd: directory, env, execArgv: [], stdio: 'pipe', serviceName });

  let stderr = '';
  child.stdout?.on('data', () => undefined);
  child.stderr?.on('data', (chunk: Buffer) => {
    stderr = (stderr + chunk.toString()).slice(-stderrLimit);
  });

  const exitListeners: Parameters<StartedProcess<Out, In>['onExit']>[0][] = [];
  const closeListeners: (() => void)[] = [];
  let reason: Details['reason'] | null = null;
  let code: number | null = null;
  let exited = false;
  let finished = false;
  const finish = (): void => {
    if (finished) return;
    finished = true;
    living.delete(directory);
    app.removeListener('child-process-gone', gone);
    rmSync(directory, { recursive: true, force: true });
    const exit = { code, signal: signalOf(reason), stderr, memoryKill: reason === 'oom' };
    for (const listener of closeListeners) listener();
    for (const listener of exitListeners) listener(exit);
  };
  const gone = (_event: unknown, details: Details): void => {
    if (details.serviceName !== serviceName && details.name !== serviceName) return;
    reason = details.reason;
    code ??= details.exitCode;
    if (exited || reason === 'launch-failed') finish();
  };
  const kill = (): void => {
    if (finished || child.pid === undefined) {
      child.kill();
      return;
    }
    try {
      // `kill()` asks politely; a process inside onnxruntime cannot listen.
      process.kill(child.pid, 'SIGKILL');
    } catch {
      child.kill();
    }
  };
  app.on('child-process-gone', gone);
  child.once('exit', (exitCode) => {
    exited = true;
    code = exitCode;
    if (exitCode === 0 || reason !== null) finish();
    else setTimeout(finish, goneGraceMs);
  });
  living.set(directory, kill);

  return {
    get pid() {
      return child.pid;
    },
    channel: {
      post: (message) => {
        if (!finished) child.postMessage(message);
      },
      onMessage: (listener) => void child.on('message', (message) => listener(message as In)),
      onClose: (listener) => void closeListeners.push(listener),
    },
    kill,
    onExit: (listener) => void exitListeners.push(listener),
  };
}

/** Chromium names reasons where POSIX has signals; exit codes differ between systems and are not relied on. */
function signalOf(reason: Details['reason'] | null): string | null {
  if (reason === 'killed') return 'SIGKILL';
  if (reason === 'crashed') return 'SIGABRT';
  return null;
}

/** Ends every process this door started. Their exits may come too late to be heard, so folders go here too. */
export function killEngines(): void {
  for (const [directory, kill] of living) {
    kill();
    rmSync(directory, { recursive: true, force: true });
  }
}

/** Only the main process may fork utility processes, so engines ask it to start onnxruntime for them. */
export function desktopEngine(accuracy: AccuracyStore, trainings: TrainingStore): EngineService {
  const processes = { spawnEngine: forkUtility, spawnRuntime: forkUtility, relayRuntimes: true };
  return createEngineService({ ...processes, accuracy, trainings, autoCalibrate: calibratesByItself() });
}
