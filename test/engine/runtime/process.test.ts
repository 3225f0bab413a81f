import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { createRuntime, type RuntimeOptions } from '../../../src/runtime/client.js';
import { entryPath } from '../../../src/runtime/entry.js';
import type { Feeds, FileValue, Runtime, SessionSpec } from '../../../src/runtime/types.js';
import { onnxModel, type TestGraph } from './model.js';

const size = 1024;
let folder: string;
let runtimes: Runtime[] = [];
let started: number[] = [];

beforeAll(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'snug-test-'));
});
afterAll(() => rmSync(folder, { recursive: true }));
afterEach(async () => {
  await Promise.all(runtimes.map((runtime) => runtime.close()));
  // Nothing outlives its runtime.
  for (const pid of started) expect(() => process.kill(pid, 0)).toThrow('ESRCH');
  runtimes = [];
  started = [];
});

function runtime(options: RuntimeOptions = {}): Runtime {
  const created = createRuntime({ onProcess: (pid) => started.push(pid), threads: 1, ...options });
  runtimes.push(created);
  return created;
}

function spec(name: string, graph: TestGraph): SessionSpec {
  const modelPath = path.join(folder, `${name}.onnx`);
  writeFileSync(modelPath, onnxModel(graph));
  return { modelPath, provider: 'cpu' };
}

const relu: TestGraph = {
  nodes: [{ operator: 'Relu', inputs: ['x'], outputs: ['y'] }],
  inputs: { x: ['batch', 2] },
  outputs: { y: ['batch', 2] },
};

/** Repeated products of a matrix with itself: seconds of work, so that it can be interrupted. */
function slow(): SessionSpec {
  const nodes = Array.from({ length: 200 }, (_, i) => ({
    operator: 'MatMul',
    inputs: [i === 0 ? 'x' : `v${i}`, 'x'],
    outputs: [`v${i + 1}`],
  }));
  return spec('slow', { nodes, inputs: { x: [size, size] }, outputs: { v200: [size, size] } });
}
const slowFeeds: Feeds = { x: { dtype: 'float32', dims: [size, size], data: new Float32Array(size * size) } };
const x = (...values: number[]): Feeds => ({
  x: { dtype: 'float32', dims: [values.length / 2, 2], data: Float32Array.from(values) },
});
/** A zombie (dead, but not yet reaped by the process that adopted it) is not alive. */
function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
  } catch {
    return false;
  }
  return process.platform !== 'linux' || !/\) Z /.test(readFileSync(`/proc/${pid}/stat`, 'utf8'));
}
const code = (value: string): unknown => expect.objectContaining({ code: value });

/** Long enough for a request to have reached the process, far shorter than the work itself. */
const soon = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 150));

describe('a session in a process of its own', () => {
  it('keeps held inputs for every later run, until others are held', async () => {
    const session = await runtime().open(spec('relu', relu));
    await session.hold(x(-1, 2));
    expect((await session.run({})).y?.data).toEqual(Float32Array.of(0, 2));
    expect((await session.run(x(5, -5))).y?.data).toEqual(Float32Array.of(5, 0));
    await session.hold(x(3, 4));
    expect((await session.run({})).y?.data).toEqual(Float32Array.of(3, 4));
    await session.close();
  });

  it('holds values of a file, the second time over the first, and says when the file is too short', async () => {
    const session = await runtime().open({ ...spec('relu', relu), lean: true });
    const file = path.join(folder, 'values.bin');
    writeFileSync(file, new Uint8Array(Float32Array.of(9, -1, 2, 3, -4).buffer));
    const value = (offset: number): FileValue[] => [{ name: 'x', dtype: 'float32', dims: [1, 2], offset }];
    await session.holdFile(file, value(4));
    expect((await session.run({})).y?.data).toEqual(Float32Array.of(0, 2));
    await session.holdFile(file, value(12));
    expect((await session.run({})).y?.data).toEqual(Float32Array.of(3, 0));
    await expect(session.holdFile(file, value(16))).rejects.toEqual(code('E_FILE_CHANGED'));
    await session.close();
  });

  it('sums products over runs, and writes them whole', async () => {
    const session = await runtime().open({ ...spec('relu', relu), lean: true });
    const products = [{ output: 'y', columns: 2 }];
    expect(await session.runProducts(x(1, 2), products, [])).toEqual({ results: {}, rows: [1] });
    const second = await session.runProducts(x(3, 4, -1, 10), products, ['y']);
    expect(second.rows).toEqual([2]);
    expect(second.results.y?.data).toEqual(Float32Array.of(3, 4, 0, 10));
    const file = path.join(folder, 'products.bin');
    expect(await session.storeProducts('y', file)).toEqual(Float32Array.of(4, 16));
    const stored = Uint8Array.from(readFileSync(file));
    expect(new Float32Array(stored.buffer)).toEqual(Float32Array.of(10, 14, 14, 120));
    await session.runProducts(x(1, 1), products, []);
    await expect(session.storeProducts('y', file)).rejects.toEqual(code('E_EXISTS'));
    await expect(session.storeProducts('z', path.join(folder, 'none.bin'))).rejects.toEqual(code('E_BAD_REQUEST'));
    await session.close();
  });

  it('runs and describes the model', async () => {
    const session = await runtime().open(spec('relu', relu));
    expect(session.inputs).toEqual([{ name: 'x', dtype: 'float32', dims: ['batch', 2] }]);
    const { y } = await session.run(x(-1, 2, 3, -4), ['y']);
    expect(y).toEqual({ dtype: 'float32', dims: [2, 2], data: Float32Array.of(0, 2, 3, 0) });
    await session.close();
    await expect(session.run(x(1, 2))).rejects.toEqual(code('E_BAD_REQUEST'));
  });

  it('says so when it is killed from outside, idle or at work', async () => {
    const session = await runtime().open(slow());
    const running = session.run(slowFeeds);
    await soon();
    process.kill(started[0] ?? 0, 'SIGKILL');
    await expect(running).rejects.toEqual(code('E_ENGINE_KILLED'));
    await expect(session.run(slowFeeds)).rejects.toEqual(code('E_ENGINE_KILLED'));
  });

  it.each(['SIGSEGV', 'SIGABRT', 'SIGTRAP'] as const)('says so when it crashes (%s)', async (signal) => {
    const session = await runtime().open(slow());
    const running = session.run(slowFeeds);
    await soon();
    process.kill(started[0] ?? 0, signal);
    await expect(running).rejects.toEqual(code('E_ENGINE_CRASHED'));
  });

  it('ends at once when cancelled', async () => {
    const controller = new AbortController();
    const client = runtime({ signal: controller.signal });
    const session = await client.open(slow());
    const running = session.run(slowFeeds);
    const measuring = client.measure(slow(), slowFeeds, { warmRuns: 3, batch: 1 });
    await soon();
    controller.abort();
    await expect(running).rejects.toEqual(code('E_CANCELLED'));
    await expect(measuring).rejects.toEqual(code('E_CANCELLED'));
    await expect(client.open(slow())).rejects.toEqual(code('E_CANCELLED'));
  });

  it('ends when its caller is gone', async () => {
    const script = `const child = require('node:child_process').fork(${JSON.stringify(entryPath('runtime-process'))},
      [], { serialization: 'advanced' }); child.once('spawn', () => { console.log(child.pid);
      setTimeout(() => process.kill(process.pid, 'SIGKILL'), 200); });`;
    const { stdout } = spawnSync(process.execPath, ['-e', script], { encoding: 'utf8' });
    const pid = Number(stdout.trim());
    expect(pid).toBeGreaterThan(0);
    await expect.poll(() => isAlive(pid)).toBe(false);
  });

  it('leaves no file behind and keeps the runtime from reporting', async () => {
    const own = mkdtempSync(path.join(folder, 'tmp-'));
    for (const name of ['TMPDIR', 'TEMP', 'TMP', 'HOME', 'XDG_CACHE_HOME']) vi.stubEnv(name, own);
    const client = runtime();
    const session = await client.open(spec('relu', relu));
    await session.run(x(1, 2));
    // Only the working folder: no device id, no log and no queue of onnxruntime's reports to its maker.
    expect(readdirSync(own)).toEqual([expect.stringMatching(/^snug-run-/)]);
    await client.measure(spec('relu', relu), x(1, 2), { warmRuns: 1, batch: 1 });
    await session.close();
    vi.unstubAllEnvs();
    expect(readdirSync(own)).toEqual([]);
  });
});

describe('what the runtime refuses', () => {
  const cases: [string, string, () => SessionSpec][] = [
    ['E_UNKNOWN_OPERATOR', 'an operator nobody knows', () => spec('op', { ...relu, nodes: [{ operator: 'Frobnicate', inputs: ['x'], outputs: ['y'] }] })],
    ['E_UNKNOWN_OPERATOR', 'a domain nobody knows', () => spec('domain', { ...relu, nodes: [{ operator: 'Frob', domain: 'ai.acme', inputs: ['x'], outputs: ['y'] }] })],
    ['E_OPSET_TOO_NEW', 'an opset of the future', () => spec('opset', { ...relu, opset: 99 })],
    ['E_MODEL_REJECTED', 'a cycle', () => spec('cycle', { ...relu, nodes: [{ operator: 'Add', inputs: ['x', 'y'], outputs: ['z'] }, { operator: 'Relu', inputs: ['z'], outputs: ['y'] }] })],
    ['E_MODEL_REJECTED', 'garbage', () => { writeFileSync(path.join(folder, 'garbage.onnx'), 'no model'); return { modelPath: path.join(folder, 'garbage.onnx'), provider: 'cpu' }; }],
    ['E_NOT_FOUND', 'a missing file', () => ({ modelPath: path.join(folder, 'none.onnx'), provider: 'cpu' })],
    ['E_PROVIDER', 'a provider of another system', () => ({ ...spec('relu', relu), provider: process.platform === 'darwin' ? 'dml' : 'coreml' })],
  ]; // prettier-ignore
  it.each(cases)('%s for %s', async (expected, _what, make) => {
    const error: unknown = await runtime()
      .open(make())
      .catch((thrown: unknown) => thrown);
    expect(error).toEqual(code(expected));
  });

  it('names the operator', async () => {
    const unknown = spec('op', { ...relu, nodes: [{ operator: 'Frobnicate', inputs: ['x'], outputs: ['y'] }] });
    await expect(runtime().open(unknown)).rejects.toThrow('Frobnicate');
  });

  it('E_DATA_SHAPE for data that does not match', async () => {
    const session = await runtime().open(spec('relu', relu));
    const wide: Feeds = { x: { dtype: 'float32', dims: [1, 3], data: new Float32Array(3) } };
    const flat: Feeds = { x: { dtype: 'float32', dims: [2], data: new Float32Array(2) } };
    const whole: Feeds = { x: { dtype: 'int64', dims: [1, 2], data: new BigInt64Array(2) } };
    const short: Feeds = { x: { dtype: 'float32', dims: [4, 2], data: new Float32Array(2) } };
    for (const feeds of [wide, flat, whole, short, {}]) {
      await expect(session.run(feeds)).rejects.toEqual(code('E_DATA_SHAPE'));
    }
    await expect(session.run(x(1, 2), ['z'])).rejects.toEqual(code('E_USAGE'));
    // The session is still good.
    expect((await session.run(x(1, 2))).y?.data).toEqual(Float32Array.of(1, 2));
  });

  it('E_OUT_OF_MEMORY for a tensor no computer holds', async () => {
    const expand = spec('expand', {
      nodes: [{ operator: 'Expand', inputs: ['x', 'shape'], outputs: ['y'] }],
      inputs: { x: [1] },
      outputs: { y: ['n', 'm'] },
      weights: { shape: { dims: [2], data: BigInt64Array.of(2n ** 24n, 2n ** 24n) } },
    });
    const session = await runtime().open(expand);
    const feeds: Feeds = { x: { dtype: 'float32', dims: [1], data: new Float32Array(1) } };
    await expect(session.run(feeds)).rejects.toEqual(code('E_OUT_OF_MEMORY'));
  });
});

describe('providers', () => {
  it('always has the cpu, and only what runs here', async () => {
    const client = runtime();
    const found = await client.providers();
    expect(found).toContain('cpu');
    for (const provider of found) {
      const session = await client.open({ ...spec('relu', relu), provider });
      expect((await session.run(x(-1, 2))).y?.data).toEqual(Float32Array.of(0, 2));
      await session.close();
    }
  });
});
