import { EventEmitter } from 'node:events';
import { existsSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { openAccuracy } from '../../src/app/accuracy/store.js';
import { TrainingStore } from '../../src/app/training-store.js';
import type { ProcessExit } from '../../src/runtime/errors.js';
import type { FakeElectron } from './fake-electron.js';

const state = vi.hoisted(() => ({ electron: null as unknown }));
vi.mock('electron', async () => {
  const { fakeElectron: create } = await import('./fake-electron.js');
  state.electron = create();
  return state.electron as object;
});
vi.mock('../../src/app/service.js', () => ({ createEngineService: vi.fn() }));
const { desktopEngine, forkUtility, killEngines } = await import('../../electron/engine.js');
const { createEngineService } = await import('../../src/app/service.js');
const electron = state.electron as FakeElectron;

class FakeChild extends EventEmitter {
  pid: number | undefined = 2 ** 22 + 1; // above every process id Linux gives out, so a signal hits nobody
  stdout = new EventEmitter();
  stderr = new EventEmitter();
  posted: unknown[] = [];
  killed = 0;
  postMessage(message: unknown) {
    this.posted.push(message);
  }
  kill() {
    this.killed += 1;
    return true;
  }
}

interface ForkOptions {
  cwd: string;
  env: Record<string, string>;
  serviceName: string;
}

let child: FakeChild;
let exits: ProcessExit[];

function start() {
  const started = forkUtility<object, { answer: number }>({
    entry: '/app/out/runtime-process.js',
    env: { PATH: '/bin' },
  });
  const [entry, , options] = electron.utilityProcess.fork.mock.lastCall as unknown as [string, string[], ForkOptions];
  exits = [];
  started.onExit((exit) => exits.push(exit));
  return { started, entry, options };
}

beforeEach(() => {
  vi.useFakeTimers();
  child = new FakeChild();
  electron.utilityProcess.fork.mockReturnValue(child);
});
afterEach(() => {
  killEngines();
  vi.useRealTimers();
});

describe('a utility process', () => {
  it('gets only the environment it is given and a folder of its own', () => {
    const { entry, options } = start();
    expect(entry).toBe('/app/out/runtime-process.js');
    expect(options).toMatchObject({ env: { PATH: '/bin' }, stdio: 'pipe', execArgv: [] });
    expect(existsSync(options.cwd)).toBe(true);
    child.emit('exit', 0);
    expect(existsSync(options.cwd)).toBe(false);
  });

  it('carries messages both ways and none after its end', () => {
    const { started } = start();
    const heard: unknown[] = [];
    started.channel.onMessage((message) => heard.push(message));
    started.channel.post({ ask: 1 });
    child.emit('message', { answer: 2 });
    child.emit('exit', 0);
    started.channel.post({ ask: 3 });
    expect(child.posted).toEqual([{ ask: 1 }]);
    expect(heard).toEqual([{ answer: 2 }]);
  });

  it.each([
    ['oom', { signal: null, memoryKill: true }],
    ['crashed', { signal: 'SIGABRT', memoryKill: false }],
    ['killed', { signal: 'SIGKILL', memoryKill: false }],
  ])('that is gone with reason %s ends once, whichever event comes first', (reason, expected) => {
    for (const order of ['exit first', 'gone first']) {
      const { options } = start();
      child.stderr.emit('data', Buffer.from('last words'));
      const gone = () => electron.app.emit('child-process-gone', {}, { serviceName: options.serviceName, reason });
      if (order === 'gone first') gone();
      child.emit('exit', 133);
      if (order === 'exit first') gone();
      vi.runAllTimers();
      expect(exits).toMatchObject([{ ...expected, code: 133, stderr: 'last words' }]);
    }
  });

  it('is not confused with another process that crashed', () => {
    start();
    electron.app.emit('child-process-gone', {}, { serviceName: 'Snug engine 999', reason: 'crashed' });
    child.emit('exit', 1);
    expect(exits).toEqual([]);
    vi.runAllTimers();
    expect(exits).toMatchObject([{ code: 1, signal: null }]);
  });
});

it('starts both kinds of processes from the main process', () => {
  const accuracy = openAccuracy(null);
  const trainings = new TrainingStore(null);
  desktopEngine(accuracy, trainings);
  expect(createEngineService).toHaveBeenCalledWith({
    trainings,
    spawnEngine: forkUtility,
    spawnRuntime: forkUtility,
    relayRuntimes: true,
    accuracy,
    autoCalibrate: true,
  });
});
