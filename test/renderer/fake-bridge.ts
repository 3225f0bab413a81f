import type { OpenModel, SnugApi } from '../../src/contract/api.js';
import type { ErrorReport, Result } from '../../src/contract/errors.js';
import type {
  Candidate,
  Damage,
  DamageBand,
  Dtype,
  Estimate,
  FitReport,
  JobEvent,
  JobPhase,
  JobProgress,
  PlanRequest,
  PlanView,
  Verdict,
  WeightPlan,
} from '../../src/contract/types.js';
import type { Scenario } from './scenario.js';

/** What the specs may look at from outside. */
export interface FakeControls {
  calls: { method: string; args: unknown[] }[];
  /** Sends the next progress event by hand (with `stepMs` negative). */
  emit(event: JobEvent): void;
  jobId: string | null;
}

/**
 * Puts a `window.snug` into the page that answers like the engine: a small model of memory that really
 * re-solves. Runs inside the page, so it may use nothing from outside of its own body.
 */
export function installFakeBridge(scenario: Scenario): void {
  const bits: Record<Dtype, number> = { fp32: 32, fp16: 16, int8: 8.5, 'int8-dynamic': 8, 'int8-static': 8, int4: 4.5 };
  const damageDb: Record<Dtype, number | null> = {
    fp32: null,
    fp16: 62,
    int8: 41,
    'int8-dynamic': 36,
    'int8-static': 33,
    int4: 22,
  };
  const allDtypes = Object.keys(bits) as Dtype[];
  const ratios = [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8];
  const batches = [1, 2, 4, 8, 16, 32, 64, 128];
  const listeners = new Set<(event: JobEvent) => void>();
  const controls: FakeControls = {
    calls: [],
    jobId: null,
    emit: (event) => listeners.forEach((listener) => listener(event)),
  };
  let model: OpenModel = scenario.model;
  let running: ReturnType<typeof setInterval> | undefined;

  const ok = <T>(value: T): Result<T> => ({ ok: true, value });
  const later = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
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
      timeline,
      unknown: [],
      limits: [],
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
        pruneMethod: request.pins.pruneMethod ?? (model.data === null ? 'magnitude' : 'repair'),
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
        730_000 * (model.summary.fileBytes > 1e7 ? 1 : 0.01),
      ),
      damage: damageOf(dtype, ratio),
      verdict,
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
      baseline: { estimate: base.estimate, verdict: base.verdict, fileBytes: model.summary.fileBytes },
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
        ...(model.data === null ? [{ kind: 'no-samples' as const }] : []),
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
            speed: dtype === 'fp32' ? 1 : dtype === 'fp16' ? 1.8 : dtype === 'int4' ? null : 1.2,
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
      model: model.summary,
      output: { path: model.summary.name.replace('.onnx', '.snug.onnx'), fileBytes: shown.fileBytes },
      budgetBytes: request.budgetBytes,
      plan: shown.plan,
      fits: true,
      before: {
        measured: measure(view.baseline.estimate, 1.01, 130.4),
        estimate: view.baseline.estimate,
        fileBytes: view.baseline.fileBytes,
        parameters: model.summary.parameters,
      },
      predicted: shown.estimate,
      measured: measure(shown.estimate, 0.97, 94.2),
      after: {
        fileBytes: shown.fileBytes,
        parameters: Math.round(model.summary.parameters * (1 - shown.plan.pruneRatio * 0.66)),
      },
      quality: {
        source: model.data === null ? 'random' : 'samples',
        samples: model.data?.samples ?? 32,
        sqnrDb: 34.2,
        cosine: 0.9996,
        top1Agreement: 0.981,
        klNats: 0.004,
        damage: { band: 'small', sqnrDb: 34.2 },
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
    };
  }

  function run(jobId: string, request: PlanRequest): void {
    const steps: { phase: JobPhase; unit: JobProgress['unit']; total: number | null }[] = [
      { phase: 'reading', unit: 'bytes', total: model.summary.fileBytes },
      { phase: 'planning', unit: 'nodes', total: 254 },
      { phase: 'quantizing', unit: 'weights', total: scenario.weights.length },
      { phase: 'writing', unit: 'bytes', total: 61_000_000 },
      { phase: 'checking', unit: 'runs', total: null },
      { phase: 'comparing', unit: 'samples', total: 200 },
    ];
    const started = Date.now();
    let tick = 0;
    running = setInterval(() => {
      const step = steps[Math.floor(tick / 4)];
      if (step === undefined) {
        clearInterval(running);
        const failed = scenario.failures.job;
        if (failed === undefined) controls.emit({ jobId, kind: 'done', report: report(request) });
        else
          controls.emit({
            jobId,
            kind: 'failed',
            error: failed,
            bestSoFar: scenario.keepOnCancel ? report(request) : null,
          });
        return;
      }
      const done = Math.round(((tick % 4) / 4) * (step.total ?? 1));
      const item = step.phase === 'quantizing' ? (scenario.weights[done]?.name ?? '') : undefined;
      const progress = {
        phase: step.phase,
        done,
        total: step.total,
        unit: step.unit,
        ...(item === undefined ? {} : { item }),
      };
      controls.emit({ jobId, kind: 'progress', progress, elapsedMs: Date.now() - started });
      tick += 1;
    }, scenario.stepMs);
  }

  async function answer<T>(method: string, args: unknown[], value: () => T | Promise<T>): Promise<Result<T>> {
    controls.calls.push({ method, args });
    await later(0);
    const failures = scenario.failures as Record<string, ErrorReport | undefined>;
    const failed = failures[method];
    if (failed !== undefined) {
      delete failures[method];
      return { ok: false, error: failed };
    }
    return ok(await value());
  }

  const snug: SnugApi = {
    info: () =>
      answer('info', [], () => ({
        door: scenario.door,
        version: '0.1.0',
        languages: scenario.languages,
        nativeDialog: scenario.door === 'desktop',
        onnxruntime: '1.30.0',
      })),
    async hardware() {
      controls.calls.push({ method: 'hardware', args: [] });
      await later(scenario.hardwareDelayMs);
      return 'code' in scenario.hardware ? { ok: false, error: scenario.hardware } : ok(scenario.hardware);
    },
    samples: () => answer('samples', [], () => scenario.samples),
    recent: () => answer('recent', [], () => scenario.recent),
    openFiles: (files) => answer('openFiles', [files.map((file) => file.name)], () => model),
    chooseModel: () => answer('chooseModel', [], () => model),
    openSample: (id) => answer('openSample', [id], () => model),
    openRecent: (id) => answer('openRecent', [id], () => model),
    attachData: (id, files) =>
      answer('attachData', [id, files.map((file) => file.name)], () => {
        model = { ...model, data: { name: files[0]?.name ?? '', samples: 200 } };
        return model;
      }),
    plan: (request) =>
      answer('plan', [request], async () => {
        await later(scenario.planDelayMs);
        return solve(request);
      }),
    startFit: (request) =>
      answer('startFit', [request], () => {
        controls.jobId = 'job-1';
        if (scenario.stepMs >= 0) run('job-1', request);
        return { jobId: 'job-1' };
      }),
    cancel: (jobId) =>
      answer('cancel', [jobId], () => {
        clearInterval(running);
        // The engine tells the end of a stopped job before it answers the stop.
        const error = { code: 'E_CANCELLED' as const, message: 'Stopped.', action: '', params: {} };
        controls.emit({ jobId, kind: 'failed', error, bestSoFar: null });
        const last = controls.calls.findLast((call) => call.method === 'startFit')?.args[0] as PlanRequest;
        return { kept: scenario.keepOnCancel ? report(last) : null };
      }),
    onJobEvent(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    saveOutput: (jobId, what) => answer('saveOutput', [jobId, what], () => null),
    diagnostics: (error) => answer('diagnostics', [error], () => `snug 0.1.0 linux x64\n${JSON.stringify(error)}`),
  };
  Object.assign(globalThis, { snug, fake: controls });
}
