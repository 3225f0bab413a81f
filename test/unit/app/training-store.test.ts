import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir, uptime } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { stampOf, TrainingStore, type UnfinishedTraining } from '../../../src/app/training-store.js';
import { usualChoices } from '../../../src/contract/training.js';

let folder = '';
beforeEach(() => void (folder = mkdtempSync(path.join(tmpdir(), 'snug-trainings-'))));
afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** A training of a model of this name, with its checkpoint on the disk. */
function begun(name: string): UnfinishedTraining {
  const modelPath = path.join(folder, `${name}.onnx`);
  const outputPath = path.join(folder, `${name}.trained.onnx`);
  writeFileSync(modelPath, name);
  writeFileSync(`${outputPath}.checkpoint`, 'state');
  return {
    modelPath,
    ...(stampOf(modelPath) ?? { modelBytes: 0, modelChangedAt: 0 }),
    outputPath,
    files: { data: 'x.npy', labels: null, teacher: null },
    provider: 'cpu',
    dims: {},
    choices: { ...usualChoices },
    microBatch: 4,
    totalSteps: 9,
  };
}

it('knows a training after a restart, and what another program began meanwhile', async () => {
  const [one, other] = [begun('one'), begun('other')];
  const here = new TrainingStore(folder);
  const there = new TrainingStore(folder);
  await Promise.all([here.add(one), there.add(other)]);
  const later = new TrainingStore(folder);
  expect((await later.of(one.modelPath))?.training).toMatchObject(one);
  expect((await later.of(other.modelPath))?.training).toMatchObject(other);
});

it('forgets a training whose model changed or whose checkpoint is gone', async () => {
  const store = new TrainingStore(folder);
  const [changed, gone] = [begun('changed'), begun('gone')];
  await store.add(changed);
  await store.add(gone);
  writeFileSync(changed.modelPath, 'another model');
  expect(await store.of(changed.modelPath)).toBeNull();
  await store.discard(gone);
  expect(await store.of(gone.modelPath)).toBeNull();
  expect(readdirSync(folder)).not.toContain('gone.trained.onnx.checkpoint');
});

it('goes on in memory where nothing can be written, and puts a damaged file aside', async () => {
  const training = begun('one');
  const lost = new TrainingStore(path.join(training.modelPath, 'no folder'));
  await lost.add(training);
  expect((await lost.of(training.modelPath))?.training).toMatchObject(training);
  writeFileSync(path.join(folder, 'trainings.json'), '{"version":1,"trainings":[{"modelPath":1}]}');
  expect(await new TrainingStore(folder).of(training.modelPath)).toBeNull();
  expect(readdirSync(folder)).toContain('trainings.json.bad');
});

it('hides what another program trains until that ends, or lets go of it', async () => {
  const elsewhere = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1000)']);
  const [one, other, old] = [begun('one'), begun('other'), begun('old')];
  const runner = { pid: elsewhere.pid ?? 0, since: Date.now() };
  const trainings = [
    { ...one, runner },
    { ...other, runner },
    // Before the computer was started the last time, this was another program.
    { ...old, runner: { ...runner, since: Date.now() - (uptime() + 60) * 1000 } },
  ];
  const file = path.join(folder, 'trainings.json');
  const store = new TrainingStore(folder);
  writeFileSync(file, JSON.stringify({ version: 1, trainings }));
  expect(await store.of(one.modelPath)).toBeNull();
  expect((await store.of(old.modelPath))?.training).toMatchObject(old);
  await new TrainingStore(folder).release(one.outputPath);
  expect((await store.of(one.modelPath))?.training).toEqual(one);
  expect(await store.of(other.modelPath)).toBeNull();
  elsewhere.kill();
  await once(elsewhere, 'exit');
  expect((await store.of(other.modelPath))?.training).toMatchObject(other);
});
