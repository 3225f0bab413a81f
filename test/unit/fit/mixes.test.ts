import { existsSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { openModel } from '../../../src/app/open.js';
import { bundledSamples } from '../../../src/app/samples.js';
import { Analysis } from '../../../src/fit/analysis.js';
import { agreeingWeights, Mixer } from '../../../src/fit/mixed-precision.js';
import { expectedSensitivity, formatKey } from '../../../src/fit/sensitivity.js';
import { Planner } from '../../../src/fit/solve.js';
import { buildModel, node, weight } from '../../engine/quantize/build.js';
import { gaussian } from '../../engine/quantize/numbers.js';

const [sample] = bundledSamples();
const { model } = openModel(sample.modelPath);
const unpruned = { batch: 32, pruneRatio: 0 };

describe('plans between 8 and 4 bits', () => {
  const planner = new Planner(new Analysis(model, 'cpu', false));
  const eight = planner.solve(1e9, { ...unpruned, dtype: 'int8' }).smallest;
  const four = planner.solve(1e9, { ...unpruned, dtype: 'int4' }).smallest;
  const [most, least] = [eight.estimate.highBytes, four.estimate.highBytes];

  it('use the budget they are given, and lose less the more it is', () => {
    let before = -Infinity;
    for (const share of [0.2, 0.4, 0.6, 0.8]) {
      const budget = least + share * (most - least);
      const view = planner.solve(budget, unpruned);
      expect(view.proposal?.verdict).toBe('fits');
      expect(view.proposal?.plan.mix).toBeDefined();
      expect(view.proposal!.damage.sqnrDb).toBeGreaterThanOrEqual(before);
      before = view.proposal!.damage.sqnrDb!;
      expect(before).toBeGreaterThan(four.damage.sqnrDb!);
      expect(view.reasons.some(({ kind }) => kind === 'mixed')).toBe(true);
      // Few weights leave steps between the mixes of this network.
      expect(view.proposal!.estimate.highBytes).toBeGreaterThan(budget * 0.85);
    }
  });

  it('are told from 8 and 4 bits for all while a budget moves, and built when it rests', () => {
    const patienceMs = 1e9;
    const fresh = new Planner(new Analysis(model, 'cpu', false));
    for (const share of [0.3, 0.7]) {
      const budget = least + share * (most - least) + 1;
      const moving = fresh.solve(budget, unpruned, patienceMs);
      const resting = fresh.solve(budget, unpruned, patienceMs);
      expect([moving.unfinished, resting.unfinished]).toEqual([true, undefined]);
      const [told, built] = [moving.proposal!, resting.proposal!];
      expect(told.plan.mix).toBeDefined();
      expect(told.verdict).toBe('fits');
      expect(Math.abs(told.estimate.peakBytes / built.estimate.peakBytes - 1)).toBeLessThan(0.05);
      expect(Math.abs(told.damage.sqnrDb! - built.damage.sqnrDb!)).toBeLessThan(1);
      expect(told.plan.weights.map(({ name }) => name)).toEqual(built.plan.weights.map(({ name }) => name));
      expect(moving.charts.tradeoff.filter(({ chosen }) => chosen)).toHaveLength(1);
    }
  });

  it('are left alone where 8 bits for all fit', () => {
    expect(planner.solve(most + 1000, unpruned).proposal?.id).toBe('int8@0');
  });

  it('can be picked from the front by their bytes', () => {
    const { mixes } = planner.solve(most, unpruned);
    expect(mixes?.basis).toBe('weights');
    const front = mixes!.front;
    expect(front.map(({ weightBytes }) => weightBytes)).toEqual(
      [...front].map(({ weightBytes }) => weightBytes).sort((a, b) => a - b),
    );
    const point = front[front.length >> 1]!;
    const view = planner.solve(1e9, { batch: 32, weightBytes: point.weightBytes });
    expect(view.proposal?.plan.mix?.weightBytes).toBe(point.weightBytes);
    expect(Math.abs(view.proposal!.estimate.peakBytes / point.peakBytes - 1)).toBeLessThan(0.1);
    expect(view.mixes?.front.filter(({ chosen }) => chosen)).toHaveLength(1);
  });

  it('obey pinned weights', () => {
    const [first] = planner.analysis.weights;
    const pins = { ...unpruned, weights: { [first!.name]: 'fp32' as const } };
    const roomy = (least + most) / 2 + first!.bytesBefore;
    const plan = planner.solve(roomy, pins).proposal?.plan;
    expect(plan?.weights.find(({ name }) => name === first!.name)?.dtype).toBe('fp32');
  });
});

const transformer = path.resolve('../shared/models/digits-vit.onnx');

describe.skipIf(!existsSync(transformer))('plans just above 4 bits for all', () => {
  it('mix, and are laid out like the plans around them', () => {
    const planner = new Planner(new Analysis(openModel(transformer).model, 'cpu', false));
    const pins = { batch: 1, pruneRatio: 0 };
    const eight = planner.propose(1e12, { ...pins, dtype: 'int8' }, new Set())!;
    const four = planner.propose(1e12, { ...pins, dtype: 'int4' }, new Set())!;
    for (const share of [0.01, 0.1]) {
      const room = share * (eight.estimate.highBytes - four.estimate.highBytes);
      const proposal = planner.propose(four.estimate.highBytes + room, pins, new Set());
      expect(proposal?.verdict).toBe('fits');
      expect(proposal?.plan.mix).toBeDefined();
      expect(proposal!.damage.sqnrDb!).toBeGreaterThan(four.damage.sqnrDb!);
      expect(proposal?.plan.relaxDims).toBe(eight.plan.relaxDims);
      expect(proposal?.plan.session).toEqual(eight.plan.session);
    }
  });
});

describe('weights that one kernel takes together', () => {
  const w = (name: string): ReturnType<typeof weight> => weight(name, [64, 64], gaussian(64 * 64, name.length));
  const attention = buildModel({
    inputs: { x: ['n', 64] },
    outputs: ['q', 'k', 'v', 'y'],
    nodes: [
      node('MatMul', ['x', 'wq'], 'q'),
      node('MatMul', ['x', 'wkk'], 'k'),
      node('MatMul', ['x', 'wvvv'], 'v'),
      node('MatMul', ['v', 'wo'], 'y'),
    ],
    weights: [w('wq'), w('wkk'), w('wvvv'), w('wo')],
  });

  it('are found under webgpu', () => {
    expect(agreeingWeights(attention, 'webgpu')).toEqual([['wq', 'wkk', 'wvvv']]);
    expect(agreeingWeights(attention, 'cpu')).toEqual([]);
  });

  it('have the same format in every mix', () => {
    const mixer = new Mixer(expectedSensitivity(attention, 'webgpu'), {}, agreeingWeights(attention, 'webgpu'));
    const { points } = mixer.front('stored');
    expect(points.length).toBeGreaterThan(5);
    points.forEach((_, at) => {
      const { formats } = mixer.mix(at, 'stored');
      const keys = ['wq', 'wkk', 'wvvv'].map((name) => formatKey(formats.get(name)!));
      expect(new Set(keys).size).toBe(1);
    });
  });
});
