/**
 * `npm run bench:levers`: peak and latency with and without each lever, and of the plan Snug makes by default, against
 * the runtime's own defaults. Every model is kept in fp32 and unpruned, so that only levers differ. Linux only: the
 * process's high-water mark comes from /proc. SNUG_MODELS=name,name limits the run, SNUG_WAYS=label,label the ways
 * (the first and the last always run), SNUG_ROUNDS sets the rounds.
 */
import { existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import type { Measurement, SessionLevers } from '../../src/contract/types.js';
import { Analysis } from '../../src/fit/analysis.js';
import { buildCandidate } from '../../src/fit/attempt.js';
import { Planner } from '../../src/fit/solve.js';
import { Workspace } from '../../src/fit/workspace.js';
import type { Model } from '../../src/onnx/model.js';
import { readModel } from '../../src/onnx/read.js';
import { defaultBindings } from '../../src/onnx/shape.js';
import { writeModel } from '../../src/onnx/write.js';
import { createRuntime } from '../../src/runtime/client.js';
import { sessionOptions } from '../../src/runtime/session.js';
import { syntheticFeeds } from '../../src/runtime/synthetic.js';
import { bertBase, gpt2, mobilenetV2, resnet50, unet, vitB16 } from './graphs/index.js';
import { type Entrant, type Outcome, race } from './levers/race.js';

interface Case {
  name: string;
  model: () => Model;
  batch: number;
  dims: Record<string, number>;
  /** Whether activations are most of what the runtime's defaults take. */
  heavy: boolean;
  /** Where the model lies, if it is not built here. */
  file?: string;
}

const shared = path.resolve('../shared/models');
const sample = (name: string) => {
  const file = path.join(shared, name);
  return { model: () => readModel(file), file };
};
const text = (sequence: number) => ({ sequence, past_sequence: 0, total_sequence: sequence });

const cases: Case[] = [
  { name: 'digits-vit', ...sample('digits-vit.onnx'), batch: 128, dims: {}, heavy: true },
  { name: 'digits-resnet', ...sample('digits-resnet.onnx'), batch: 128, dims: {}, heavy: true },
  { name: 'kjv-gpt', ...sample('kjv-gpt/model.onnx'), batch: 16, dims: text(128), heavy: true },
  { name: 'unet', model: () => unet({ scale: 1 / 4 }), batch: 4, dims: { height: 192, width: 192 }, heavy: true },
  { name: 'vit-b', model: () => vitB16({ scale: 1 / 6, layers: 4 }), batch: 16, dims: {}, heavy: true },
  { name: 'mobilenetv2', model: () => mobilenetV2({ scale: 1 / 2 }), batch: 8, dims: {}, heavy: true },
  { name: 'resnet50', model: () => resnet50({ scale: 1 / 2 }), batch: 1, dims: {}, heavy: false },
  { name: 'bert-base', model: () => bertBase({ scale: 1 / 2, layers: 4 }), batch: 1, dims: text(64), heavy: false },
  { name: 'gpt2', model: () => gpt2({ scale: 1 / 3, layers: 4 }), batch: 1, dims: text(32), heavy: false },
];

const wanted = process.env.SNUG_MODELS?.split(',');
const ways = process.env.SNUG_WAYS?.split(',');
const rounds = Number(process.env.SNUG_ROUNDS ?? 15);
const folder = mkdtempSync(path.join(tmpdir(), 'snug-levers-'));
const rows: string[] = [];
const runtime = createRuntime();
/** Printed at once, so that a run cut short is not lost, and again as one table at the end. */
function tell(row: string): void {
  console.log(row);
  rows.push(row);
}

const mb = (bytes: number): string => (bytes / 1e6).toFixed(1).padStart(7);

async function counted(file: string, levers: Partial<SessionLevers>, test: Case, model: Model): Promise<Measurement> {
  const { dims } = defaultBindings(model, test.batch, test.dims);
  const session = await runtime.open({ modelPath: file, provider: 'cpu' });
  const feeds = syntheticFeeds(session.inputs, dims, test.batch);
  await session.close();
  return runtime.measure({ modelPath: file, provider: 'cpu', levers }, feeds, { warmRuns: 2, batch: test.batch });
}

/** Writes the file of the plan Snug makes for the model as it is, and tells which levers it took. */
async function defaultPlan(model: Model, test: Case): Promise<{ file: string; levers: SessionLevers; taken: string }> {
  const analysis = new Analysis(model, 'cpu', false);
  const pins = { dtype: 'fp32', pruneRatio: 0, batch: test.batch, dims: test.dims } as const;
  const planner = new Planner(analysis);
  const candidate = planner.propose(Number.MAX_SAFE_INTEGER, pins, new Set());
  if (!candidate) throw new Error('no plan');
  const place = path.join(folder, `${test.name}-plan`);
  mkdirSync(place);
  const built = await buildCandidate(
    {
      analysis,
      runtime,
      workspace: new Workspace(path.join(place, 'model.onnx')),
      outputName: 'model.onnx',
      calibration: null,
      inputs: [],
      pins: {},
      reference: null,
      onProgress: () => undefined,
    },
    planner.structureOf(candidate, pins),
    candidate,
  );
  const { session, relaxDims, reorderNodes, externalWeights } = built.plan;
  const taken = [
    session.memoryPattern ? '' : 'no pattern',
    session.disabledOptimizers ? 'gelu unfused' : '',
    relaxDims ? 'batch hidden' : '',
    reorderNodes ? 'reordered' : '',
    externalWeights ? 'weights mapped' : '',
  ];
  return { file: path.join(built.folder, 'model.onnx'), levers: session, taken: taken.filter(Boolean).join(', ') };
}

describe.skipIf(!existsSync('/proc/self/clear_refs'))('levers (needs Linux /proc)', () => {
  afterAll(async () => {
    await runtime.close();
    rmSync(folder, { recursive: true, force: true });
    console.log(
      '\nmodel | way | process peak MB | share of default | latency ms | ratio of default | counted peak MB (share)',
    );
    for (const row of rows) console.log(row);
  });

  for (const test of cases.filter(
    ({ name, file }) => (wanted?.includes(name) ?? true) && (!file || existsSync(file)),
  )) {
    it(test.name, async () => {
      const model = test.model();
      const inline = path.join(folder, `${test.name}.onnx`);
      const mapped = path.join(folder, `${test.name}-mapped.onnx`);
      writeModel(model, inline);
      writeModel(model, mapped, { externalData: 'always' });
      const plan = await defaultPlan(model, test);
      const options = (levers: Partial<SessionLevers>) => sessionOptions({ provider: 'cpu', levers });
      const off = options({ memoryPattern: false });
      const unpacked = { ...off, extra: { session: { disable_prepacking: '1' } } };
      const shrink = { memory: { enable_memory_arena_shrinkage: 'cpu:0' } };
      const entrants: Entrant[] = [
        { label: 'defaults', file: inline, options: options({}) },
        { label: 'no pattern', file: inline, options: off },
        { label: 'no arena', file: inline, options: { ...off, enableCpuMemArena: false } },
        { label: 'arena shrunk', file: inline, options: off, run: { extra: shrink } },
        { label: 'mapped', file: mapped, options: options({}) },
        { label: 'mapped, unpacked', file: mapped, options: unpacked },
        {
          label: 'gelu unfused',
          file: inline,
          options: options({ memoryPattern: false, disabledOptimizers: ['BiasGeluFusion'] }),
        },
        { label: 'level basic', file: inline, options: { ...off, graphOptimizationLevel: 'basic' } },
        { label: 'plan', file: plan.file, options: options(plan.levers) },
      ];
      const { dims } = defaultBindings(model, test.batch, test.dims);
      const running = entrants.filter(
        ({ label }, index) => !ways || index === 0 || index === entrants.length - 1 || ways.includes(label),
      );
      const outcomes = await race(running, dims, rounds);
      const [first] = outcomes;
      const last = outcomes.at(-1);
      if (!first || !last) throw new Error('nothing ran');
      const before = await counted(inline, { memoryPattern: true }, test, model);
      const after = await counted(plan.file, plan.levers, test, model);
      const share = (outcome: Outcome): string => (outcome.peakBytes / first.peakBytes).toFixed(2);
      for (const outcome of outcomes) {
        const counts =
          outcome === first
            ? mb(before.peakBytes)
            : outcome === last
              ? `${mb(after.peakBytes)} (${(after.peakBytes / before.peakBytes).toFixed(2)}) ${plan.taken}`
              : '';
        tell(
          [
            test.name.padEnd(13),
            outcome.label.padEnd(16),
            mb(outcome.peakBytes),
            share(outcome),
            outcome.latencyMs.toFixed(1).padStart(7),
            outcome.ratio.toFixed(2),
            counts,
          ].join(' | '),
        );
      }
      expect(last.ratio).toBeLessThan(1.25);
    });
  }
});
