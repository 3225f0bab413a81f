import { expect, test } from 'vitest';
import { JobRecord } from '../../../src/app/door/job-record.js';
import type { OpenModel } from '../../../src/contract/api.js';
import type { TrainingProgress } from '../../../src/contract/training.js';
import type { FitReport, JobEvent, JobPhase, PlanRequest, PruneCurve } from '../../../src/contract/types.js';

const model = { modelId: 'model-1', summary: {}, data: null } as unknown as OpenModel;
const request: PlanRequest = { modelId: 'model-1', budgetBytes: 5, pins: {} };
const progress = (phase: JobPhase, done: number, jobId = 'job'): JobEvent => ({
  jobId,
  kind: 'progress',
  progress: { phase, done, total: 9, unit: 'nodes' },
  elapsedMs: done,
});
const memory = (atMs: number, usedBytes: number): JobEvent => ({
  jobId: 'job',
  kind: 'memory',
  sample: { atMs, usedBytes, deviceUsedBytes: null, deviceTotalBytes: null },
});
const failed = (code: 'E_CANCELLED' | 'E_RUN_FAILED', jobId = 'job'): JobEvent => ({
  jobId,
  kind: 'failed',
  error: { code, message: '', action: '', params: {} },
  bestSoFar: null,
});
const done = (jobId: string): JobEvent => ({ jobId, kind: 'done', report: {} as FitReport });
const curve = (state: PruneCurve['state']): JobEvent => ({
  jobId: 'model-1',
  kind: 'pruning',
  curve: { points: [], samples: 1, fitted: true, state, total: 3 },
});
const fit = { kind: 'fit', request } as const;

test('a job that runs comes with the first and newest word of each phase, also what came before it had a name', () => {
  const record = new JobRecord();
  record.take(progress('reading', 0));
  record.begin('job', model, fit, performance.now() - 1000);
  for (const at of [1, 2, 3]) record.take(progress('reading', at));
  for (const at of [4, 5, 6]) record.take(progress('writing', at));
  record.take(progress('reading', 7));
  const [job] = record.all();
  expect(job).toMatchObject({ kind: 'fit', jobId: 'job', model, request, running: true });
  expect(job?.elapsedMs).toBeGreaterThanOrEqual(1000);
  const told = job?.events.map((event) => event.kind === 'progress' && [event.progress.phase, event.progress.done]);
  expect(told).toEqual([
    ['reading', 0],
    ['reading', 3],
    ['writing', 4],
    ['writing', 6],
    ['reading', 7],
  ]);
  expect(record.running()).toEqual(['job']);
});

test('of the memory a bounded number of samples stays, the highest among them', () => {
  const record = new JobRecord();
  record.begin('job', model, fit, 0);
  for (let at = 0; at < 1000; at += 1) record.take(memory(at, at === 10 ? 99 : 1));
  const samples = record.all()[0]?.events.flatMap((event) => (event.kind === 'memory' ? [event.sample] : [])) ?? [];
  expect(samples).toHaveLength(240);
  expect(samples.some(({ usedBytes }) => usedBytes === 99)).toBe(true);
  expect(samples.at(-1)?.atMs).toBe(999);
});

test('a training comes with its newest word, which holds the whole curve', () => {
  const record = new JobRecord();
  record.begin('job', model, { kind: 'training', request: null }, 0);
  for (const step of [1, 2]) {
    record.take({ jobId: 'job', kind: 'training', training: { step } as TrainingProgress });
  }
  expect(record.all()[0]?.events).toEqual([{ jobId: 'job', kind: 'training', training: { step: 2 } }]);
});

test('an end stays until a page puts it away; a stop that left nothing is never shown', () => {
  const record = new JobRecord();
  record.begin('job', model, fit, 0);
  record.dismiss('job');
  expect(record.running()).toEqual(['job']);
  record.take(failed('E_RUN_FAILED'));
  expect(record.running()).toEqual([]);
  expect(record.all()).toMatchObject([{ running: false, events: [{ kind: 'failed' }] }]);
  record.dismiss('job');
  expect(record.all()).toEqual([]);
  record.begin('stopped', model, fit, 0);
  record.take(failed('E_CANCELLED', 'stopped'));
  expect(record.all()).toEqual([]);
});

test('a job that ended before its start was answered does not run', () => {
  const record = new JobRecord();
  record.take(done('job'));
  record.begin('job', model, fit, 0);
  expect(record.running()).toEqual([]);
  expect(record.all()).toHaveLength(1);
});

test('ended jobs that nobody puts away do not pile up', () => {
  const record = new JobRecord();
  for (let at = 0; at < 30; at += 1) {
    record.begin(`job-${at}`, model, fit, 0);
    record.take(done(`job-${at}`));
  }
  expect(record.all().map(({ jobId }) => jobId)).toEqual(Array.from({ length: 8 }, (_, i) => `job-${29 - i}`));
});

test('a measurement is there while it runs, keeps no program open, and asks nothing again', () => {
  const record = new JobRecord();
  record.take(curve('measuring'));
  record.begin('model-1', model, { kind: 'pruning', request }, 0);
  expect(record.all()).toMatchObject([{ kind: 'pruning', running: true }]);
  expect(record.running()).toEqual([]);
  record.take(curve('done'));
  expect(record.all()).toEqual([]);
  // Measured before: the engine says nothing.
  record.begin('model-1', model, { kind: 'pruning', request }, 0);
  expect(record.all()).toEqual([]);
});
