import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { makeNode } from '../../src/onnx/graph.js';
import type { Dim, Model } from '../../src/onnx/model.js';
import { writeModel } from '../../src/onnx/write.js';
import { matMulChain } from './models.js';
import { snug } from './run-snug.js';

let folder = '';
beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'snug-memory-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** `snug memory` on a chain whose graph was changed. */
function memory(change: (model: Model) => void, ...args: string[]): ReturnType<typeof snug> {
  const model = matMulChain(2, 64);
  change(model);
  const file = path.join(folder, 'model.onnx');
  writeModel(model, file, { overwrite: true });
  return snug(['memory', file, '-q', ...args], { SNUG_SETTINGS_DIR: folder });
}

const withBatch = (batch: Dim) => (model: Model) => {
  for (const { dims } of [...model.graph.inputs, ...model.graph.outputs]) dims?.splice(0, 1, batch);
};

it('takes a batch that the file fixes, and no other', async () => {
  expect((await memory(withBatch(4))).stdout).toContain('batch 4: needs about');
  const { code, stderr } = await memory(withBatch(4), '--batch', '8');
  expect(code).toBe(2);
  expect(stderr).toContain('is fixed at 4 in the file');
});

it('reads a negative size as an open one, as the runtime does', async () => {
  const { code, stdout } = await memory(withBatch(-1), '--batch', '3', '--measure', '--json');
  expect(code).toBe(0);
  expect(JSON.parse(stdout)).toMatchObject({ estimate: { batch: 3, unknown: [] }, measured: { batch: 3 } });
});

it.each(['constructor', '__proto__'])('knows the dimension %s only where the model has it', async (name) => {
  expect((await memory(withBatch('batch'), '--dim', `${name}=3`)).stderr).toContain(`has no dimension "${name}"`);
});

it('reads a dimension called constructor like any other', async () => {
  expect((await memory(withBatch('constructor'))).stdout).toContain('batch 1: needs about');
  expect((await memory(withBatch('constructor'), '--dim', 'constructor=3')).stdout).toContain('batch 3: needs about');
});

it('promises no interval where sizes are unknown', async () => {
  const { stdout } = await memory(({ graph }) => {
    graph.nodes.push(makeNode('NonZero', ['y'], ['z'], {}, { name: 'nonzero' }));
    graph.outputs.push({ name: 'z', dataType: 7, dims: null });
  });
  expect(stdout).toContain('The size of 1 tensor is unknown');
  expect(stdout).not.toContain('Sure of');
});

it('lets no name of a file steer the terminal', async () => {
  const { code, stdout } = await memory(({ graph }) => {
    const [node] = graph.nodes;
    const weight = graph.initializers.get('w0');
    if (!node || !weight) throw new Error('The chain has changed.');
    const name = 'w\u001b[31m\u0007\nfake row';
    node.inputs[1] = name;
    graph.initializers.delete('w0');
    graph.initializers.set(name, { ...weight, name });
  });
  expect(code).toBe(0);
  expect(stdout).toContain('w\ufffd[31m\ufffd\ufffdfake row');
  // eslint-disable-next-line no-control-regex -- those are what must not be there
  expect(stdout).not.toMatch(/[\u0000-\u0009\u000b-\u001f\u007f]/);
});

it('sweeps over batch sizes and marks the knee; a fixed batch is the only size', async () => {
  const { code, stdout } = await memory(withBatch(16), '--sweep', '--json');
  expect(code).toBe(0);
  const { sweep } = JSON.parse(stdout) as { sweep: { points: { batch: number }[]; knee: { batch: number } } };
  expect(sweep).toMatchObject({ state: 'done', points: [{ batch: 16 }], knee: { batch: 16, share: 1 } });
  expect((await memory(withBatch(16), '--sweep')).stdout).toMatch(
    /^The knee is batch 16: no larger batch that was run is faster\.$/mu,
  );
});
