/**
 * The words of Snug as types, shared by the engine and all doors. Sizes are bytes (field names end in
 * `Bytes`), times are milliseconds (`Ms`) unless said otherwise. One word for one thing: see docs/words in
 * ARCHITECTURE.md.
 */

export const providers = ['cpu', 'cuda', 'dml', 'webgpu', 'coreml'] as const;
export type Provider = (typeof providers)[number];

/**
 * Number format a weight gets. `int8` and `int4` are weight-only (blocks or channels, activations stay
 * float); `int8-dynamic` quantizes activations at run time (MatMulInteger); `int8-static` uses calibrated
 * activation ranges (QDQ around Conv, MatMul, Gemm).
 */
export const dtypes = ['fp32', 'fp16', 'int8', 'int8-dynamic', 'int8-static', 'int4'] as const;
export type Dtype = (typeof dtypes)[number];

/** A number format with what block formats leave open; what is absent is chosen as for the format alone. */
export interface WeightFormat {
  dtype: Dtype;
  /** Weights that share a scale: 16, 32, 64, 128 or 256. */
  blockSize?: number;
  /** Whether each block of 4-bit codes has its own zero point, where the provider takes one. */
  zeroPoints?: boolean;
}

export const pruneMethods = ['random', 'magnitude', 'activation', 'repair'] as const;
/**
 * How units are chosen and what makes up for them. `random` and `magnitude` (smallest L2 norm first): nothing does.
 * `activation`: least contribution to the next layer on samples, whose mean is kept. `repair`: least-squares repair of
 * the consumer. Both run inputs: samples, or made-up ones where there are none.
 */
export type PruneMethod = (typeof pruneMethods)[number];

export type Verdict = 'fits' | 'tight' | 'does-not-fit' | 'cannot-tell';

// ---------------------------------------------------------------- hardware

export type Confidence = 'measured' | 'reported' | 'guessed' | 'unknown';

export interface GpuReading {
  /** Stable within one reading, e.g. `nvidia-0`, `amd-0000:03:00.0`, `manual`, `ram`. */
  id: string;
  name: string;
  vendor: 'nvidia' | 'amd' | 'intel' | 'apple' | 'other' | 'none';
  totalBytes: number | null;
  freeBytes: number | null;
  /**
   * Held by all other programs; null when the source cannot tell. Includes what Snug holds where `heldByUsBytes` is
   * null; `notes` say where it is a lower bound.
   */
  heldByOthersBytes: number | null;
  /** Held by Snug's own processes; null when the source cannot tell. */
  heldByUsBytes: number | null;
  /** Where a sampler finds the device again: PCI address `0000:03:00.0`, on Windows the LUID `0_e0a7`; null without. */
  address: string | null;
  /** Memory shared with the system (integrated GPU, Apple). */
  shared: boolean;
  /** Plain words: "NVIDIA driver (nvidia-smi)", "Linux kernel (amdgpu sysfs)", "entered by you". */
  source: string;
  confidence: Confidence;
  /** Execution providers that could use this device in this installation. */
  providers: Provider[];
  /** Milliseconds since the epoch. */
  readAt: number;
  /** Known wrong answers that were corrected or could not be, e.g. "Windows reports at most 4 GB here". */
  notes: string[];
  /** Version of the graphics driver; absent where nothing tells it. */
  driver?: string;
}

export interface HardwareReading {
  gpus: GpuReading[];
  ram: {
    totalBytes: number;
    freeBytes: number;
    /** Resident bytes of Snug's own processes; null when the source cannot tell. */
    heldByUsBytes: number | null;
    source: string;
    confidence: Confidence;
  };
  cpu: { name: string; cores: number };
  platform: string;
}

// ---------------------------------------------------------------- model

export interface ValueSummary {
  name: string;
  /** ONNX element type in words: `float32`, `int64`, … */
  dtype: string;
  /** Fixed size, or the symbol's name, or null when unknown. */
  dims: (number | string | null)[];
}

export interface ModelSummary {
  name: string;
  path: string;
  /** File plus external data. */
  fileBytes: number;
  inputs: ValueSummary[];
  outputs: ValueSummary[];
  opset: Record<string, number>;
  irVersion: number;
  producer: string;
  parameters: number;
  weightBytes: number;
  /** Operator type (domain-qualified when not ai.onnx) → how many nodes, subgraphs included. */
  operators: Record<string, number>;
  /** Dimensions of the inputs that need a value, e.g. ["batch", "sequence"]; one without a name is `input.axis`. */
  dimensions: string[];
  /** The dimension Snug takes as the batch, if any. */
  batchDimension: string | null;
  /** Words for a person: `image classifier`, `text decoder with KV cache`, `network`. */
  kind: string;
  externalFiles: { name: string; bytes: number }[];
  warnings: string[];
}

// ---------------------------------------------------------------- memory

export interface MemoryParts {
  weightsBytes: number;
  activationsBytes: number;
  cacheBytes: number;
  workspaceBytes: number;
  runtimeBytes: number;
}

export interface PhaseEstimate {
  peakBytes: number;
  parts: MemoryParts;
}

/** How sure an estimate is, and why. */
export interface EstimateInterval {
  /** A rule of the provider, a calibration run on this device, or the runs measured here before. */
  source: 'rule' | 'calibration' | 'record';
  /** Distance of the farther bound from the estimate, in percent of the estimate. */
  percent: number;
  /** Runs on this machine that the bounds rest on; 0 for a rule. */
  runs: number;
}

export interface Estimate {
  provider: Provider;
  batch: number;
  /** Every named dimension with the value used; `assumed` names those nobody gave. */
  dims: Record<string, number>;
  assumed: string[];
  load: PhaseEstimate;
  cold: PhaseEstimate;
  warm: PhaseEstimate;
  /** The largest of load, cold and warm: what "needs" means on screen. */
  peakBytes: number;
  /** Interval the estimate is sure of. */
  lowBytes: number;
  highBytes: number;
  /** Where that interval comes from; absent means the provider's rule. */
  interval?: EstimateInterval;
  topTensors: { name: string; bytes: number; kind: 'weight' | 'activation' | 'cache' }[];
  /** Live bytes over the nodes of a warm run, in execution order (thinned to at most 400 points). */
  timeline: { node: string; operator: string; liveBytes: number }[];
  /**
   * The largest values that live between nodes, each with the first and last point of `timeline` (inclusive) at
   * which it is in memory: what is under the curve at any point.
   */
  lifetimes?: TensorLifetime[];
  /** Values whose size could not be worked out, with the reason. */
  unknown: { name: string; reason: string }[];
  /** Limits of the device that would be hit. */
  limits: string[];
}

export interface TensorLifetime {
  name: string;
  bytes: number;
  kind: 'activation' | 'cache';
  from: number;
  to: number;
}

export interface Measurement {
  provider: Provider;
  batch: number;
  /** What the model adds; see ARCHITECTURE.md "What peakBytes counts". */
  peakBytes: number;
  load: number | null;
  cold: number | null;
  warm: number | null;
  weightsOutsideArenaBytes: number;
  /** Median of the timed runs. */
  latencyMs: number;
  samplesPerSecond: number;
  /** How the peak was read: `arena` (profile counters), `process` (resident set), `nvidia-smi`. */
  method: 'arena' | 'process' | 'nvidia-smi';
  /** Nodes by provider as the runtime placed them. */
  placement: Record<string, number>;
  /** Weight-carrying or costly nodes that fell back to the CPU although another provider was asked for. */
  fallbacks: { node: string; operator: string; provider: string; weightBytes: number }[];
}

// ---------------------------------------------------------------- how right Snug has been here

/** One prediction beside what was measured. Holds the name of the model, never a path. */
export interface AccuracyRun {
  model: string;
  provider: Provider;
  batch: number;
  /** Number format of most of the weight bytes. */
  dtype: Dtype;
  predictedBytes: number;
  measuredBytes: number;
  /** Milliseconds since the epoch. */
  at: number;
}

/** What one calibration run learned about a device. */
export interface Calibration {
  /** Name of the GPU, or of the processor for the cpu provider. */
  device: string;
  /** Driver version where one is known; null for the cpu provider. */
  driver: string | null;
  provider: Provider;
  onnxruntime: string;
  at: number;
  /** A session of one node: what it held after loading and at its peak, and what the rule expected at its peak. */
  fixed: { loadBytes: number; peakBytes: number; predictedBytes: number };
  /** Small graphs: measured peaks beside the estimate and the bounds the provider's rule gave. */
  probes: { name: string; predictedBytes: number; measuredBytes: number; lowBytes: number; highBytes: number }[];
  /** The farther bound of the interval that follows for a model whose rule is as sure as the probes', percent. */
  percent: number;
}

export interface AccuracySummary {
  runs: number;
  /** |predicted ÷ measured − 1|, percent. */
  medianPercent: number;
  worstPercent: number;
}

/** The record of predictions on this machine and the calibrations that hold now. Stays on this computer. */
export interface AccuracyView {
  /** Newest first. */
  runs: AccuracyRun[];
  /** Null before the first run. */
  summary: AccuracySummary | null;
  calibrations: Calibration[];
  /** The provider being calibrated right now. */
  calibrating: Provider | null;
}

/**
 * What is known on this machine about how far estimates of one provider are off. Ratios are measured over estimated.
 */
export interface KnownError {
  calibration: {
    low: number;
    high: number;
    runs: number;
    /** Added to an estimate before the ratios: what a session costs here beyond what the rule expects. */
    offsetBytes: number;
    /** Bounds over estimate that the rule gave the probes: less sure models get a wider interval in proportion. */
    rule: { low: number; high: number };
  } | null;
  record: { low: number; high: number; runs: number } | null;
}

// ---------------------------------------------------------------- plan

/** Session options chosen by the plan. */
export interface SessionLevers {
  memoryPattern: boolean;
  /** The runtime's optimizers that are left out, by its own names (`BiasGeluFusion`). Absent: none. */
  disabledOptimizers?: string[];
  /** Nodes that webgpu leaves to the CPU, so that their weights need no room on the GPU. Absent: none. */
  cpuNodes?: string[];
}

export interface WeightPlan {
  name: string;
  operator: string;
  dims: number[];
  dtype: Dtype;
  bytesBefore: number;
  bytesAfter: number;
  /** Why this weight stayed large or got a wider dtype than asked. */
  reason?: string;
  /** Weights that share a scale, where a mix chose it; see {@link WeightFormat}. */
  blockSize?: number;
  zeroPoints?: boolean;
  /**
   * Error this format of this weight alone adds to the answers, as a share of their power; where a mix of formats was
   * weighed. Comparable between the weights of one plan.
   */
  noise?: number;
}

/** Where the sensitivity of the weights comes from: their own values, or runs with one weight changed at a time. */
export type SensitivityBasis = 'weights' | 'measured';

/** Share of the weights in each format, 0 to 1, counted in bytes before. */
export type MixShares = Partial<Record<Dtype, number>>;

/** A mix of number formats that was chosen weight by weight for a number of bytes. */
export interface MixPlan {
  /** Bytes the provider holds for all weights between runs, packed copies included. */
  weightBytes: number;
  basis: SensitivityBasis;
  /** What the single noises add up to. */
  expected: Damage;
}

export interface ClassPlan {
  id: string;
  /** For people: the name of the layers that share this width. */
  name: string;
  before: number;
  after: number;
}

export interface Plan {
  provider: Provider;
  batch: number;
  dims: Record<string, number>;
  pruneRatio: number;
  pruneMethod: PruneMethod;
  classes: ClassPlan[];
  weights: WeightPlan[];
  /** Set where the formats were weighed against each other weight by weight. */
  mix?: MixPlan;
  session: SessionLevers;
  /**
   * Whether a zero-copy Reshape hides the batch symbol from onnxruntime's static planner, which otherwise
   * holds same-shaped buffers over long gaps (docs/decisions/0003).
   */
  relaxDims: boolean;
  /** Whether the nodes are written in another order, under which the runtime holds fewer bytes at once. Absent: no. */
  reorderNodes?: boolean;
  /**
   * Whether the weights go into a file of their own, from which the runtime maps those it does not repack instead of
   * copying them. Absent: only where one file cannot hold them.
   */
  externalWeights?: boolean;
}

export type DamageBand = 'none' | 'negligible' | 'small' | 'moderate' | 'large' | 'severe' | 'unknown';

export interface Damage {
  band: DamageBand;
  /** Expected (before a run) or measured output signal-to-noise in dB; null when nothing changed. */
  sqnrDb: number | null;
}

export interface Candidate {
  id: string;
  plan: Plan;
  estimate: Estimate;
  fileBytes: number;
  damage: Damage;
  verdict: Verdict;
}

/** What a person fixed by hand; everything absent is Snug's to choose. */
export interface Pins {
  provider?: Provider;
  batch?: number;
  dims?: Record<string, number>;
  pruneRatio?: number;
  pruneMethod?: PruneMethod;
  dtype?: Dtype;
  /** Weight name → dtype. */
  weights?: Record<string, Dtype>;
  /** Class id → kept width. */
  classes?: Record<string, number>;
  /** Bytes the provider may hold for all weights: the best mix of formats of that size. Ignored where `dtype` is set. */
  weightBytes?: number;
}

export interface PlanRequest {
  modelId: string;
  budgetBytes: number;
  pins: Pins;
}

export type Reason =
  | { kind: 'already-fits' }
  | { kind: 'chosen'; why: 'least-damage' }
  | { kind: 'pinned'; what: string }
  | { kind: 'no-samples' }
  | { kind: 'stayed-large'; weight: string; why: string }
  | { kind: 'assumed-dimension'; name: string; value: number }
  | { kind: 'fell-back'; node: string; operator: string; provider: string }
  | { kind: 'candidate-failed'; id: string; why: string }
  | { kind: 'blocked-by'; what: 'weights' | 'activations' | 'cache'; name: string; bytes: number }
  | { kind: 'less-free'; freeBytes: number; neededBytes: number }
  /** Which formats a mix gives to which share of the weights, and the weights it keeps widest because they matter most. */
  | { kind: 'mixed'; basis: SensitivityBasis; shares: MixShares; kept: string[] }
  | { kind: 'note'; text: string };

export interface PlanView {
  budgetBytes: number;
  /** The model as it is, at the plan's batch and provider. */
  baseline: { estimate: Estimate; verdict: Verdict; fileBytes: number };
  /** What Snug proposes; null when nothing fits. */
  proposal: Candidate | null;
  /** The smallest peak reachable with these pins, always present. */
  smallest: Candidate;
  reasons: Reason[];
  charts: {
    prune: { ratio: number; peakBytes: number; fileBytes: number; damage: Damage }[];
    dtypes: {
      dtype: Dtype;
      peakBytes: number;
      fileBytes: number;
      damage: Damage;
      allowed: boolean;
      /** Why this dtype is not offered on this provider (when not allowed) or what it leaves large. */
      note: string | null;
      /** Time per run against fp32 on this provider, as far as known for its operators; null where nothing is known. */
      speed?: 'faster' | 'same' | 'slower' | null;
    }[];
    batches: { batch: number; peakBytes: number; fits: boolean }[];
    /** Pareto front over all candidates plus the chosen point. */
    tradeoff: { id: string; label: string; peakBytes: number; damage: Damage; chosen: boolean }[];
  };
  /** What can be pruned and what that costs; absent where nothing can be. */
  pruning?: PruneView;
  /** Mixes of formats between the smallest and the widest, unpruned; absent where no weight has a choice. */
  mixes?: MixView;
  /** How fast each batch size really is; absent while nothing was measured: see `measureBatches`. */
  throughput?: Throughput;
  /**
   * True when there was no time for all of it: some figures of charts are those of a close neighbour. Asking again goes
   * on from here.
   */
  unfinished?: boolean;
  /** How long the solve took. */
  solveMs: number;
}

/** One mix of number formats of the Pareto front: no other of as few bytes is expected to do less damage. */
export interface MixPoint {
  /** Bytes the provider holds for all weights between runs; `Pins.weightBytes` picks the point. */
  weightBytes: number;
  fileBytes: number;
  /** At the shown plan's batch. */
  peakBytes: number;
  damage: Damage;
  shares: MixShares;
  /** Whether the shown plan is this mix. */
  chosen: boolean;
}

export interface MixView {
  basis: SensitivityBasis;
  /** By rising bytes; at most 60 points, evenly spread. */
  front: MixPoint[];
}

/** What one removable unit of a width is. */
export type PruneUnit =
  /** Output channels of convolutions. */
  | 'channels'
  /** Hidden units of an MLP (or of any pair of matrices). */
  | 'features'
  /** Whole attention heads: rows of query, key, value and output projections. */
  | 'heads'
  /** Key/value heads with all the query heads that share them (grouped-query attention). */
  | 'kv-groups'
  /** The same query head of every group (grouped-query attention). */
  | 'query-heads'
  /** Width of queries and keys within every head. */
  | 'query-key-width'
  /** Width of values within every head. */
  | 'value-width'
  /** Width of queries, keys and values where the model ties them. */
  | 'head-width'
  /** Whole groups of a grouped convolution or of a group norm. */
  | 'groups'
  /** Hidden units of an LSTM, GRU or RNN. */
  | 'recurrent'
  /** A stream that layers read and add to: channels of a stage, the hidden size of a transformer. */
  | 'stream';

/** A width that can shrink, for people to see and to set. */
export interface PruneClassView {
  id: string;
  name: string;
  unit: PruneUnit;
  /** Units now. */
  width: number;
  /** Layers whose outputs are the units, by name. */
  producers: string[];
  /** Layers that read them. */
  consumers: string[];
  /** Weights of norms and biases that shrink along: how many. */
  others: number;
  /** Whether the ratio applies to it; otherwise it shrinks only when its width is set. */
  byDefault: boolean;
  /** Weight bytes of one unit over all members, other widths unchanged. */
  bytesPerUnit: number;
}

/** What a prune ratio really did to the answers on samples kept out of the repair. */
export interface PrunePoint {
  ratio: number;
  damage: Damage;
  /** Share of answers that stayed the same; null when the output is no distribution. */
  top1Agreement: number | null;
}

/** Damage against ratio, method `repair`, measured by pruning and running the model: see `measurePruning`. */
export interface PruneCurve {
  /** By ratio; those measured so far. */
  points: PrunePoint[];
  /** Samples kept out of the repair on which the answers were compared. */
  samples: number;
  state: 'measuring' | 'done' | 'stopped' | 'failed';
  /** Ratios measured in all, when it is done. */
  total: number;
}

export interface PruneView {
  classes: PruneClassView[];
  /** Null while nothing was measured for this model and these samples. */
  curve: PruneCurve | null;
  /** What the weights alone let expect of the method, number formats left out, at the ratios of `charts.prune`. */
  expected: { ratio: number; damage: Damage }[];
  /** Whether `charts.prune` and `furthestRatio` follow the measured curve, or what weights alone let expect. */
  basis: 'measured' | 'expected';
  /**
   * This far and no further: the largest ratio before the damage of pruning alone becomes more than small; null when
   * it never does.
   */
  furthestRatio: number | null;
}

// ---------------------------------------------------------------- results

/** How far one value of the result is from the original's. */
export interface ValueDamage {
  /** Name of the value in the graph. */
  value: string;
  sqnrDb: number;
  cosine: number;
  damage: Damage;
}

/** Damage at one answer of the model. */
export interface OutputDamage extends ValueDamage {
  /** Null when the output is no distribution. */
  top1Agreement: number | null;
  klNats: number | null;
}

/**
 * Damage at the output of one layer that holds weights, everything before it changed as well: it grows along the
 * network, and a step shows a layer that does harm.
 */
export interface LayerDamage extends ValueDamage {
  /** Name of the node in the original. */
  layer: string;
  operator: string;
  /** Its weights, as in `Plan.weights`. */
  weights: string[];
  /** Format of most of their bytes. */
  dtype: Dtype;
}

/** How likely the original and the result hold the true next tokens: e to the mean negative log-likelihood. */
export interface Perplexity {
  before: number;
  after: number;
  tokens: number;
}

/** Share of right answers on labelled samples. */
export interface Accuracy {
  before: number;
  after: number;
  samples: number;
}

export interface Quality {
  /** Where the compared inputs came from. */
  source: 'samples' | 'random';
  samples: number;
  sqnrDb: number;
  cosine: number;
  /** Share of samples (or tokens) with the same arg-max, null when the output is no distribution. */
  top1Agreement: number | null;
  /** Mean KL(original ‖ result) in nats, null when the output is no distribution. */
  klNats: number | null;
  damage: Damage;
  /** Absent in reports of earlier versions. */
  outputs?: OutputDamage[];
  /** In the order of the graph; absent where nothing was changed or the original could not be run beside the result. */
  layers?: LayerDamage[];
  /** For decoders of text whose samples hold the next tokens. */
  perplexity?: Perplexity;
  /** Where labels were given. */
  accuracy?: Accuracy;
}

export interface FitReport {
  model: ModelSummary;
  output: { path: string; fileBytes: number } | null;
  budgetBytes: number;
  plan: Plan;
  fits: boolean;
  before: { measured: Measurement | null; estimate: Estimate; fileBytes: number; parameters: number };
  predicted: Estimate;
  measured: Measurement | null;
  after: { fileBytes: number; parameters: number };
  quality: Quality | null;
  /** Latency before divided by latency after, in this run. */
  speed: number | null;
  reasons: Reason[];
  /** Memory while the job ran, thinned; absent where it could not be sampled. */
  trace?: MemorySample[];
  /** All candidates tried, best first. */
  tried: { id: string; label: string; predictedBytes: number; measuredBytes: number | null; outcome: string }[];
  seconds: number;
}

export type JobPhase = 'reading' | 'planning' | 'pruning' | 'quantizing' | 'writing' | 'checking' | 'comparing';

export interface JobProgress {
  phase: JobPhase;
  /** Work units done and in all; bytes where `unit` is `bytes`. */
  done: number;
  total: number | null;
  unit: 'bytes' | 'weights' | 'nodes' | 'samples' | 'runs';
  /** Name of the thing being worked on. */
  item?: string;
}

/** Memory at one moment of a job. */
export interface MemorySample {
  /** Milliseconds since the job started. */
  atMs: number;
  /** What the processes that run the model hold, without the runtime's own base. */
  usedBytes: number;
  /** All that is used on the device the model runs on, other programs included; null when it cannot be read. */
  deviceUsedBytes: number | null;
  deviceTotalBytes: number | null;
}

export type JobEvent =
  | { jobId: string; kind: 'progress'; progress: JobProgress; elapsedMs: number }
  /** Comes a few times a second while a model runs, between the other events. */
  | { jobId: string; kind: 'memory'; sample: MemorySample }
  /** More of a damage curve was measured, or measuring it ended; `jobId` is the model's id. */
  | { jobId: string; kind: 'pruning'; curve: PruneCurve }
  /** One more batch size was measured, or measuring ended; `jobId` is the model's id. */
  | { jobId: string; kind: 'batches'; sweep: BatchSweep }
  /** Comes a few times a second while a model is trained. */
  | { jobId: string; kind: 'training'; training: TrainingProgress }
  /** A training has ended with a file: by itself or by a stop. */
  | { jobId: string; kind: 'trained'; report: TrainingReport }
  /** The record or the calibrations changed; `jobId` is `calibration` or the job whose run was added. */
  | { jobId: string; kind: 'accuracy'; accuracy: AccuracyView }
  | { jobId: string; kind: 'done'; report: FitReport }
  | { jobId: string; kind: 'failed'; error: ErrorReport; bestSoFar: FitReport | null };

import type { ErrorReport } from './errors.js';
import type { BatchSweep, Throughput } from './throughput.js';
import type { TrainingProgress, TrainingReport } from './training.js';
