import type { OpenModel, RecentModel, SampleModel, StartedJob } from '../../src/contract/api.js';
import type { ErrorReport } from '../../src/contract/errors.js';
import type { InterruptedTraining } from '../../src/contract/training.js';
import type { AccuracyView, Dtype, HardwareReading, ModelSummary } from '../../src/contract/types.js';

/** One weight of the fake model: what it is and what it could become. */
export interface FakeWeight {
  name: string;
  operator: string;
  dims: number[];
}

/** Everything the fake bridge answers from. Plain data: it crosses into the page. */
export interface Scenario {
  hardware: HardwareReading | ErrorReport;
  /** Milliseconds before the hardware answers. */
  hardwareDelayMs: number;
  samples: SampleModel[];
  recent: RecentModel[];
  languages: string[];
  door: 'desktop' | 'browser';
  model: OpenModel;
  weights: FakeWeight[];
  /** Activation bytes of one sample; the peak grows with the batch. */
  activationBytesPerSample: number;
  cacheBytes: number;
  workspaceBytes: number;
  runtimeBytes: number;
  defaultBatch: number;
  dtypeNotes: Partial<Record<Dtype, string>>;
  refused: Partial<Record<Dtype, string>>;
  /** Errors by method: the next call fails with it. */
  failures: Partial<
    Record<
      | 'openFiles'
      | 'openSample'
      | 'attachData'
      | 'plan'
      | 'startFit'
      | 'job'
      | 'calibrate'
      | 'attachTraining'
      | 'planTraining'
      | 'startTraining'
      | 'saveOutput'
      | 'training',
      ErrorReport
    >
  >;
  /** Milliseconds between progress events; the job does not move while this is negative. */
  stepMs: number;
  keepOnCancel: boolean;
  /** Jobs another page has started. */
  jobs: StartedJob[];
  planDelayMs: number;
  accuracy: AccuracyView;
  /** What the estimate could not work out, and limits it would hit. */
  unknown: { name: string; reason: string }[];
  limits: string[];
  /** Milliseconds per ratio while damage is measured; nothing comes by itself while this is negative. */
  curveMs: number;
  /** Milliseconds a calibration takes; it does not end by itself while this is negative. */
  calibrationMs: number;
  /** What a calibration finds; its provider is the one asked for. */
  calibrated: AccuracyView['calibrations'];
  /** A training that can go on. */
  interrupted: InterruptedTraining | null;
  /** Whether the model has an output that labels can be held against. */
  countable: boolean;
  /** Milliseconds per batch size while throughput is measured; nothing comes by itself while this is negative. */
  sweepMs: number;
}

export const laptop: HardwareReading = {
  gpus: [
    {
      id: 'nvidia-0',
      name: 'NVIDIA GeForce RTX 3060',
      vendor: 'nvidia',
      totalBytes: 12e9,
      freeBytes: 9.1e9,
      heldByOthersBytes: 2.7e9,
      heldByUsBytes: 0,
      address: '0000:01:00.0',
      shared: false,
      source: 'NVIDIA driver (nvidia-smi)',
      confidence: 'measured',
      providers: ['cuda', 'cpu'],
      readAt: 1_763_700_000_000,
      notes: [],
    },
    {
      id: 'intel-0',
      name: 'Intel Iris Xe',
      vendor: 'intel',
      totalBytes: 8e9,
      freeBytes: 6.2e9,
      heldByOthersBytes: null,
      heldByUsBytes: null,
      address: '0000:00:02.0',
      shared: true,
      source: 'Windows registry',
      confidence: 'guessed',
      providers: ['webgpu', 'cpu'],
      readAt: 1_763_700_000_000,
      notes: [],
    },
  ],
  ram: {
    totalBytes: 32e9,
    freeBytes: 18.4e9,
    heldByUsBytes: 0.2e9,
    source: 'operating system',
    confidence: 'measured',
  },
  cpu: { name: 'AMD Ryzen 7 5800H', cores: 16 },
  platform: 'linux',
};

export const noGpu: HardwareReading = { ...laptop, gpus: [] };

function vitWeights(): FakeWeight[] {
  const weights: FakeWeight[] = [{ name: 'embeddings.patch.weight', operator: 'Conv', dims: [768, 3, 16, 16] }];
  for (let block = 0; block < 12; block += 1) {
    const name = `encoder.layer.${block}`;
    for (const part of ['query', 'key', 'value', 'output']) {
      weights.push({ name: `${name}.attention.${part}.weight`, operator: 'MatMul', dims: [768, 768] });
    }
    weights.push({ name: `${name}.mlp.fc1.weight`, operator: 'MatMul', dims: [768, 3072] });
    weights.push({ name: `${name}.mlp.fc2.weight`, operator: 'MatMul', dims: [3072, 768] });
  }
  weights.push({ name: 'classifier.weight', operator: 'Gemm', dims: [1000, 768] });
  return weights;
}

const vitSummary: ModelSummary = {
  name: 'vit-b.onnx',
  path: 'vit-b.onnx',
  fileBytes: 347_000_000,
  inputs: [{ name: 'pixel_values', dtype: 'float32', dims: ['batch', 3, 224, 224] }],
  outputs: [{ name: 'logits', dtype: 'float32', dims: ['batch', 1000] }],
  opset: { 'ai.onnx': 17 },
  irVersion: 8,
  producer: 'pytorch 2.9.0',
  parameters: 86_567_656,
  weightBytes: 346_270_624,
  operators: { MatMul: 96, Add: 120, LayerNormalization: 25, Softmax: 12, Conv: 1 },
  dimensions: ['batch'],
  batchDimension: 'batch',
  kind: 'image classifier',
  externalFiles: [],
  warnings: [],
};

/** What a machine knows after a while: three runs and a calibrated GPU. */
export const experienced: AccuracyView = {
  runs: [
    {
      model: 'vit-b.onnx',
      provider: 'cuda',
      batch: 64,
      dtype: 'fp16',
      predictedBytes: 3.38e9,
      measuredBytes: 3.34e9,
      at: Date.now() - 3_600_000,
    },
    {
      model: 'vit-b.onnx',
      provider: 'cuda',
      batch: 64,
      dtype: 'fp32',
      predictedBytes: 6.37e9,
      measuredBytes: 6.4e9,
      at: Date.now() - 3_600_000,
    },
    {
      model: 'bert-base-uncased.onnx',
      provider: 'cuda',
      batch: 8,
      dtype: 'int8',
      predictedBytes: 812e6,
      measuredBytes: 766e6,
      at: Date.now() - 5 * 86_400_000,
    },
  ],
  summary: { runs: 3, medianPercent: 1.2, worstPercent: 6.0 },
  calibrations: [
    {
      device: 'NVIDIA GeForce RTX 3060',
      driver: '581.29',
      provider: 'cuda',
      onnxruntime: '1.30.0',
      at: Date.UTC(2026, 10, 3, 12),
      fixed: { loadBytes: 11e6, peakBytes: 12e6, predictedBytes: 10e6 },
      probes: [
        { name: 'dense layers', predictedBytes: 48e6, measuredBytes: 48.4e6, lowBytes: 36e6, highBytes: 96e6 },
        { name: 'feature maps', predictedBytes: 61e6, measuredBytes: 62.6e6, lowBytes: 46e6, highBytes: 122e6 },
        { name: 'attention', predictedBytes: 52e6, measuredBytes: 51.6e6, lowBytes: 39e6, highBytes: 104e6 },
      ],
      percent: 4.1,
    },
  ],
  calibrating: null,
};

/** A vision transformer whose activations do not fit a 4 GB budget: the main story. */
export const vit: Scenario = {
  hardware: laptop,
  hardwareDelayMs: 20,
  samples: [
    { id: 'digits-vit', name: 'digits-vit', fileBytes: 7_230_000, hasData: true },
    { id: 'digits-resnet', name: 'digits-resnet', fileBytes: 3_260_000, hasData: true },
    { id: 'digits-mlp', name: 'digits-mlp', fileBytes: 676_000, hasData: true },
  ],
  recent: [
    { id: 'r1', name: 'vit-b.onnx', verdict: 'fits', openedAt: Date.now() - 86_400_000, missing: false },
    {
      id: 'r2',
      name: 'bert-base-uncased.onnx',
      verdict: 'does-not-fit',
      openedAt: Date.now() - 3 * 86_400_000,
      missing: false,
    },
    { id: 'r3', name: 'old-export.onnx', verdict: 'tight', openedAt: Date.now() - 40 * 86_400_000, missing: true },
  ],
  languages: ['en-US'],
  door: 'desktop',
  model: { modelId: 'm1', summary: vitSummary, data: null },
  weights: vitWeights(),
  activationBytesPerSample: 88_000_000,
  cacheBytes: 0,
  workspaceBytes: 210_000_000,
  runtimeBytes: 180_000_000,
  defaultBatch: 64,
  dtypeNotes: { fp16: 'Half the bytes; activations are half as large too.' },
  refused: { 'int8-dynamic': 'Runs on the CPU under CUDA, so nothing would stay on the GPU.' },
  failures: {},
  stepMs: 15,
  keepOnCancel: false,
  jobs: [],
  planDelayMs: 0,
  accuracy: { runs: [], summary: null, calibrations: [], calibrating: null },
  unknown: [],
  limits: [],
  curveMs: 15,
  calibrationMs: 20,
  calibrated: experienced.calibrations,
  interrupted: null,
  countable: true,
  sweepMs: 15,
};

/** A model far smaller than any GPU: it fits as it is and the bar must still show something. */
export const digits: Scenario = {
  ...vit,
  model: {
    modelId: 'm2',
    summary: {
      ...vitSummary,
      name: 'digits-mlp.onnx',
      path: 'digits-mlp.onnx',
      fileBytes: 676_000,
      inputs: [{ name: 'image', dtype: 'float32', dims: ['batch', 1, 8, 8] }],
      parameters: 167_178,
      weightBytes: 668_712,
    },
    data: { name: 'digits-calibration.npy', samples: 100, countable: true },
  },
  weights: [
    { name: 'fc1.weight', operator: 'Gemm', dims: [512, 64] },
    { name: 'fc2.weight', operator: 'Gemm', dims: [256, 512] },
    { name: 'fc3.weight', operator: 'Gemm', dims: [10, 256] },
  ],
  activationBytesPerSample: 6_000,
  workspaceBytes: 0,
  runtimeBytes: 40_000,
  defaultBatch: 32,
};

export function failure(code: ErrorReport['code'], params: ErrorReport['params'] = {}): ErrorReport {
  return {
    code,
    message: 'What happened, in English.',
    action: 'What to do.',
    params,
    details: '[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : /onnxruntime/core/framework/bfc_arena.cc:376',
  };
}
