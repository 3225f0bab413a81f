import type { OpenModel } from '../../src/contract/api.js';
import type { BatchSweep, ThroughputPoint } from '../../src/contract/throughput.js';
import type {
  Candidate,
  Damage,
  DamageBand,
  Dtype,
  Estimate,
  FitReport,
  MixPoint,
  PlanRequest,
  PlanView,
  PruneCurve,
  PrunePoint,
  Verdict,
  WeightPlan,
} from '../../src/contract/types.js';
import type { Scenario } from './scenario.js';

/** Answers like the engine; put into the page as `fakeEngine` before the bridge. */
export interface FakeEngine {
  /** Replaced when samples are attached. */
  model: OpenModel;
  /** As far as it has been measured. */
  curve: PruneCurve | null;
  /** Throughput as far as it has been measured. */
  sweep: BatchSweep | null;
  /** What is measured at a batch size. */
  run(batch: number): ThroughputPoint;
  /** What is measured at a ratio. */
  measure(ratio: number): PrunePoint;
  solve(request: PlanRequest): PlanView;
  report(request: PlanRequest): FitReport;
}

/**
 * A small model of memory that really re-solves: peak = weights by format and ratio + activations by batch.
 * Runs inside the page, so it may use nothing from outside of its own body.
 */
export function installFakeEngine(scenario: Scenario): void {
  const bits: Record<Dtype, number> = {
    fp32: 32,
    fp16: 16,
    int8: 8.5,
    'int8-dynamic': 8,
    'int8-static': 8,
    int4: 4.5,
    nf4: 4.25,
    int2: 2.5,
  };
  const damageDb: Record<Dtype, number | null> = {
    fp32: null,
    fp16: 62,
    int8: 41,
    'int8-dynamic': 36,
    'int8-static': 33,
    int4: 22,
    nf4: 22,
    int2: 9,
  };
  const allDtypes = Object.keys(bits) as Dtype[];
  const ratios = [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8];
  const firstRequest: PlanRequest = { modelId: 'm', budgetBytes: 1e12, pins: {} };
  const batches = [1, 2, 4, 8, 16, 32, 64, 128];

  const bandOf = (db: number | null): DamageBand =>
    db === null
      ? 'none'
      : db > 55
        ? 'negligible'
        : db > 35
          ? 'small'
          : db > 25
            ? 'moderate'
            : db > 15
              ? 'large'
              : 'severe';
  const damageOf = (dtype: Dtype, ratio: number): Damage => {
    const base = damageDb[dtype] ?? (ratio > 0 ? 60 : null);
    const sqnrDb = base === null ? null : Math.max(4, base - ratio * 55);
    return { band: bandOf(sqnrDb), sqnrDb };
  };

  function weightsAt(dtype: Dtype, ratio: number, own: Record<string, Dtype>): WeightPlan[] {
    return scenario.weights.map((weight) => {
      const count = weight.dims.reduce((product, dim) => product * dim, 1);
      const used = own[weight.name] ?? (weight.operator === 'Conv' && dtype === 'int4' ? 'fp16' : dtype);
      return {
        ...weight,
        dtype: used,
        bytesBefore: count * 4,
        bytesAfter: Math.round((count * (1 - ratio) * bits[used]) / 8),
        ...(used === dtype ? {} : { reason: 'No 4-bit kernel for Conv.' }),
        ...(dtype === 'fp32' || dtype === 'fp16' ? {} : { noise: weight.dims[0] === 3072 ? 4e-4 : 4e-5 }),
      };
    });
  }

  function estimateAt(weights: WeightPlan[], dtype: Dtype, ratio: number, batch: number): Estimate {
    const weightsBytes = weights.reduce((sum, weight) => sum + weight.bytesAfter, 0);
    const half = dtype === 'fp16' ? 0.5 : 1;
    const activationsBytes = Math.round(scenario.activationBytesPerSample * batch * half * (1 - ratio * 0.35));
    const parts = {
      weightsBytes,
      activationsBytes,
      cacheBytes: scenario.cacheBytes,
      workspaceBytes: scenario.workspaceBytes,
      runtimeBytes: scenario.runtimeBytes,
    };
    const peakBytes = weightsBytes + activationsBytes + parts.cacheBytes + parts.workspaceBytes + parts.runtimeBytes;
    const steps = 60;
    const timeline = Array.from({ length: steps }, (_, index) => ({
      node: `/encoder/layer.${Math.floor(index / 5)}/${['qkv', 'attn', 'proj', 'fc1', 'fc2'][index % 5] ?? ''}`,
      operator: ['MatMul', 'Softmax', 'MatMul', 'MatMul', 'MatMul'][index % 5] ?? '',
      liveBytes: Math.round(
        weightsBytes +
          scenario.runtimeBytes +
          activationsBytes * ([0.55, 0.82, 0.5, 1, 0.6][index % 5] ?? 1) * (index === 33 ? 1 : 0.94),
      ),
    }));
    return {
      provider: 'cuda',
      batch,
      dims: { batch },
      assumed: [],
      load: { peakBytes: Math.round(weightsBytes * 1.3), parts: { ...parts, activationsBytes: 0, workspaceBytes: 0 } },
      cold: { peakBytes, parts },
      warm: { peakBytes, parts },
      peakBytes,
      lowBytes: Math.round(peakBytes * 0.95),
      highBytes: Math.round(peakBytes * 1.05),
      topTensors: [
        { name: '/encoder/layer.6/mlp/fc1_output', bytes: Math.round(activationsBytes * 0.44), kind: 'activation' },
        { name: '/encoder/layer.6/attn/scores', bytes: Math.round(activationsBytes * 0.31), kind: 'activation' },
        { name: 'encoder.layer.0.mlp.fc1.weight', bytes: weights[5]?.bytesAfter ?? weightsBytes, kind: 'weight' },
      ],
      interval: { source: 'rule', percent: 5, runs: 0 },
      timeline,
      lifetimes: Array.from({ length: 12 }, (_, layer) => [
        {
          name: `/encoder/layer.${layer}/mlp/fc1_output`,
          bytes: Math.round(activationsBytes * 0.44),
          kind: 'activation' as const,
          from: layer * 5 + 3,
          to: layer * 5 + 4,
        },
        {
          name: `/encoder/layer.${layer}/attn/scores`,
          bytes: Math.round(activationsBytes * 0.31),
          kind: 'activation' as const,
          from: layer * 5,
          to: layer * 5 + 3,
        },
      ]).flat(),
      unknown: scenario.unknown,
      limits: scenario.limits,
    };
  }

  function candidate(request: PlanRequest, dtype: Dtype, ratio: number, batch: number): Candidate {
    const weights = weightsAt(dtype, ratio, request.pins.weights ?? {});
    const estimate = estimateAt(weights, dtype, ratio, batch);
    const spare = request.budgetBytes - estimate.peakBytes;
    const verdict: Verdict = spare < 0 ? 'does-not-fit' : spare < request.budgetBytes * 0.03 ? 'tight' : 'fits';
    return {
      id: `${dtype}-${ratio}-${batch}`,
      plan: {
        provider: request.pins.provider ?? 'cuda',
        batch,
        dims: { batch },
        pruneRatio: ratio,
        pruneMethod: request.pins.pruneMethod ?? 'repair',
        classes:
          ratio === 0
            ? []
            : [0, 1, 2, 3].map((layer) => ({
                id: `c${layer}`,
                name: `encoder.layer.${layer}.mlp`,
                before: 3072,
                after: request.pins.classes?.[`c${layer}`] ?? Math.round(3072 * (1 - ratio)),
              })),
        weights,
        session: { memoryPattern: false },
        relaxDims: false,
      },
      estimate,
      fileBytes: weights.reduce(
        (sum, weight) => sum + weight.bytesAfter,
        730_000 * (engine.model.summary.fileBytes > 1e7 ? 1 : 0.01),
      ),
      damage: damageOf(dtype, ratio),
      verdict,
    };
  }

  /** Repair keeps answers close until half is gone. */
  function measure(ratio: number): PrunePoint {
    const sqnrDb = 46 - ratio * 30 - Math.max(0, ratio - 0.4) * 40;
    const band = sqnrDb > 30 ? 'negligible' : sqnrDb > 20 ? 'small' : sqnrDb > 14 ? 'moderate' : 'large';
    return { ratio, damage: { band, sqnrDb }, top1Agreement: Math.min(1, 1 - 10 ** (-sqnrDb / 20) / 3) };
  }

  function pruningView(request: PlanRequest): NonNullable<PlanView['pruning']> {
    const byRepair = (request.pins.pruneMethod ?? 'repair') === 'repair';
    const curve = engine.model.data === null ? null : engine.curve;
    const measured = byRepair && curve !== null && curve.points.length > 0;
    const expected = ratios.map((ratio) => ({ ratio, damage: damageOf('fp32', ratio) }));
    const points = measured ? curve.points : expected;
    const tooFar = points.findIndex(({ damage }) => ['moderate', 'large', 'severe'].includes(damage.band));
    return {
      classes: [0, 1, 2, 3].flatMap((layer) => [
        {
          id: `c${layer}`,
          name: `hidden width of MLP ${layer + 1}`,
          unit: 'features' as const,
          width: 3072,
          producers: [`encoder.layer.${layer}.mlp.fc1`],
          consumers: [`encoder.layer.${layer}.mlp.fc2`],
          others: 1,
          byDefault: true,
          bytesPerUnit: 6148,
        },
        {
          id: `h${layer}`,
          name: `attention heads of layer ${layer + 1}`,
          unit: 'heads' as const,
          width: 12,
          producers: ['query', 'key', 'value'].map((part) => `encoder.layer.${layer}.attention.${part}`),
          consumers: [`encoder.layer.${layer}.attention.output`],
          others: 3,
          byDefault: false,
          bytesPerUnit: 786_432,
        },
      ]),
      curve,
      expected,
      basis: measured ? 'measured' : 'expected',
      furthestRatio: tooFar === -1 ? null : (points[tooFar - 1]?.ratio ?? 0),
    };
  }

  function solve(request: PlanRequest): PlanView {
    const batch = request.pins.batch ?? scenario.defaultBatch;
    const allowed = allDtypes.filter((dtype) => scenario.refused[dtype] === undefined);
    const dtypesTried = request.pins.dtype === undefined ? allowed : [request.pins.dtype];
    const ratiosTried = request.pins.pruneRatio === undefined ? ratios : [request.pins.pruneRatio];
    const batchesTried =
      request.pins.batch === undefined ? [batch, Math.round(batch * 0.75), Math.round(batch / 2)] : [batch];
    const all = batchesTried.flatMap((b) =>
      ratiosTried.flatMap((ratio) => dtypesTried.map((dtype) => candidate(request, dtype, ratio, b))),
    );
    const cost = (each: Candidate): number =>
      (batch / each.plan.batch - 1) * 60 + (each.damage.sqnrDb === null ? 0 : 100 - each.damage.sqnrDb);
    const fitting = all.filter((each) => each.verdict !== 'does-not-fit').toSorted((a, b) => cost(a) - cost(b));
    const smallest = all.reduce((best, each) => (each.estimate.peakBytes < best.estimate.peakBytes ? each : best));
    const proposal = fitting[0] ?? null;
    const base = candidate({ ...request, pins: {} }, 'fp32', 0, batch);
    const shown = proposal ?? smallest;
    const front = all
      .filter((each) => each.plan.batch === shown.plan.batch)
      .toSorted((a, b) => a.estimate.peakBytes - b.estimate.peakBytes)
      .filter((each, index, list) =>
        list.slice(0, index).every((other) => (other.damage.sqnrDb ?? 99) < (each.damage.sqnrDb ?? 99)),
      );
    return {
      budgetBytes: request.budgetBytes,
      baseline: { estimate: base.estimate, verdict: base.verdict, fileBytes: engine.model.summary.fileBytes },
      proposal,
      smallest,
      reasons: [
        ...(base.verdict === 'does-not-fit' ? [] : [{ kind: 'already-fits' as const }]),
        ...(proposal === null
          ? [
              {
                kind: 'blocked-by' as const,
                what: 'activations' as const,
                name: '/encoder/layer.6/mlp/fc1_output',
                bytes: 410_000_000,
              },
            ]
          : [{ kind: 'chosen' as const, why: 'least-damage' as const }]),
        ...(engine.model.data === null ? [{ kind: 'no-samples' as const }] : []),
        { kind: 'assumed-dimension', name: 'batch', value: batch },
      ],
      charts: {
        prune: ratios.map((ratio) => {
          const each = candidate(
            request,
            request.pins.dtype ?? shown.plan.weights[1]?.dtype ?? 'fp32',
            ratio,
            shown.plan.batch,
          );
          return { ratio, peakBytes: each.estimate.peakBytes, fileBytes: each.fileBytes, damage: each.damage };
        }),
        dtypes: allDtypes.map((dtype) => {
          const each = candidate(request, dtype, shown.plan.pruneRatio, shown.plan.batch);
          return {
            dtype,
            peakBytes: each.estimate.peakBytes,
            fileBytes: each.fileBytes,
            damage: each.damage,
            allowed: scenario.refused[dtype] === undefined,
            note: scenario.refused[dtype] ?? scenario.dtypeNotes[dtype] ?? null,
            speed: dtype === 'int8-static' ? 'faster' : dtype === 'int4' ? null : 'same',
          };
        }),
        batches: batches.map((b) => {
          const each = candidate(request, shown.plan.weights[1]?.dtype ?? 'fp32', shown.plan.pruneRatio, b);
          return { batch: b, peakBytes: each.estimate.peakBytes, fits: each.verdict !== 'does-not-fit' };
        }),
        tradeoff: front.map((each) => ({
          id: each.id,
          label: `${each.plan.weights[1]?.dtype ?? ''}, ${Math.round(each.plan.pruneRatio * 100)} %`,
          peakBytes: each.estimate.peakBytes,
          damage: each.damage,
          chosen: each.id === proposal?.id,
        })),
      },
      ...mixes(request, shown),
      pruning: pruningView(request),
      ...(engine.sweep === null ? {} : { throughput: throughput(request, engine.sweep) }),
      solveMs: 12,
    };
  }

  function report(request: PlanRequest): FitReport {
    const view = solve(request);
    const shown = view.proposal ?? view.smallest;
    const measure = (estimate: Estimate, factor: number, latencyMs: number): NonNullable<FitReport['measured']> => ({
      provider: 'cuda',
      batch: estimate.batch,
      peakBytes: Math.round(estimate.peakBytes * factor),
      load: null,
      cold: null,
      warm: null,
      weightsOutsideArenaBytes: 0,
      latencyMs,
      samplesPerSecond: (estimate.batch / latencyMs) * 1000,
      method: 'nvidia-smi',
      placement: { cuda: 254, cpu: 2 },
      fallbacks: [],
    });
    return {
      model: engine.model.summary,
      output: { path: engine.model.summary.name.replace('.onnx', '.snug.onnx'), fileBytes: shown.fileBytes },
      budgetBytes: request.budgetBytes,
      plan: shown.plan,
      fits: true,
      before: {
        measured: measure(view.baseline.estimate, 1.01, 130.4),
        estimate: view.baseline.estimate,
        fileBytes: view.baseline.fileBytes,
        parameters: engine.model.summary.parameters,
      },
      predicted: shown.estimate,
      measured: measure(shown.estimate, 0.97, 94.2),
      after: {
        fileBytes: shown.fileBytes,
        parameters: Math.round(engine.model.summary.parameters * (1 - shown.plan.pruneRatio * 0.66)),
      },
      quality: {
        source: engine.model.data === null ? 'random' : 'samples',
        samples: engine.model.data?.samples ?? 32,
        sqnrDb: 34.2,
        cosine: 0.9996,
        top1Agreement: 0.981,
        klNats: 0.004,
        damage: { band: 'small', sqnrDb: 34.2 },
        outputs: [],
        layers: shown.plan.weights.slice(0, 3).map(({ name, operator, dtype }, at) => ({
          ...{ value: name, layer: name.replace('.weight', ''), operator, weights: [name], dtype },
          sqnrDb: [42, 19.4, 33][at] ?? 30,
          cosine: 0.9994,
          damage: { band: bandOf([42, 19.4, 33][at] ?? 30), sqnrDb: [42, 19.4, 33][at] ?? 30 },
        })),
      },
      speed: 130.4 / 94.2,
      reasons: view.reasons.filter((reason) => reason.kind !== 'assumed-dimension'),
      tried: [
        {
          id: shown.id,
          label: '8-bit weights, batch 32',
          predictedBytes: shown.estimate.peakBytes,
          measuredBytes: Math.round(shown.estimate.peakBytes * 0.97),
          outcome: 'kept',
        },
        {
          id: 'x',
          label: '16-bit float, batch 48',
          predictedBytes: Math.round(request.budgetBytes * 0.99),
          measuredBytes: Math.round(request.budgetBytes * 1.02),
          outcome: 'over the budget',
        },
      ],
      seconds: 41,
      trace: Array.from({ length: 40 }, (_, index) => ({
        atMs: 20_000 + index * 250,
        usedBytes: Math.round(shown.estimate.peakBytes * ([0.2, 0.55, 0.97, 0.8][index % 4] ?? 0)),
        deviceUsedBytes: Math.round(2.9e9 + shown.estimate.peakBytes * ([0.2, 0.55, 0.97, 0.8][index % 4] ?? 0)),
        deviceTotalBytes: 12e9,
      })),
    };
  }

  /** Ten mixes from all 4-bit to all 8-bit. */
  function mixes(request: PlanRequest, shown: Candidate): Pick<PlanView, 'mixes'> {
    const pick = request.pins.weightBytes;
    const front = Array.from({ length: 10 }, (_, step): MixPoint => {
      const int4 = 1 - step / 9;
      const small = weightsAt('int4', 0, {}).reduce((sum, { bytesAfter }) => sum + bytesAfter, 0);
      const large = weightsAt('int8', 0, {}).reduce((sum, { bytesAfter }) => sum + bytesAfter, 0);
      const weightBytes = Math.round(small + (large - small) * (1 - int4));
      const sqnrDb = 22 + 19 * (1 - int4) ** 0.7;
      return {
        weightBytes,
        fileBytes: weightBytes + 300_000,
        peakBytes: shown.estimate.peakBytes - small + weightBytes,
        damage: { band: bandOf(sqnrDb), sqnrDb },
        shares: { int4, int8: 1 - int4 },
        chosen: weightBytes === pick,
      };
    });
    return { mixes: { basis: 'weights', front } };
  }

  /** Rises until the device is busy: the knee is at 16. */
  function run(batch: number): ThroughputPoint {
    const samplesPerSecond = (900 * batch) / (batch + 1.6);
    const estimatedBytes = candidate(firstRequest, 'fp32', 0, batch).estimate.peakBytes;
    const latencyMs = (batch / samplesPerSecond) * 1000;
    return { batch, samplesPerSecond, latencyMs, measuredBytes: Math.round(estimatedBytes * 0.98), estimatedBytes };
  }

  function throughput({ budgetBytes }: PlanRequest, sweep: BatchSweep): NonNullable<PlanView['throughput']> {
    const fitting = sweep.points.filter(({ estimatedBytes }) => estimatedBytes <= budgetBytes);
    const best = fitting.reduce((top, { samplesPerSecond }) => Math.max(top, samplesPerSecond), 0);
    const knee = fitting.find(({ samplesPerSecond }) => samplesPerSecond >= best * 0.9);
    const fastest = fitting.find(({ samplesPerSecond }) => samplesPerSecond === best);
    return {
      sweep,
      knee:
        knee === undefined || fastest === undefined
          ? null
          : {
              batch: knee.batch,
              samplesPerSecond: knee.samplesPerSecond,
              share: knee.samplesPerSecond / best,
              fastest: fastest.batch,
            },
    };
  }

  const engine: FakeEngine = { model: scenario.model, curve: null, sweep: null, run, measure, solve, report };
  Object.assign(globalThis, { fakeEngine: engine });
}
