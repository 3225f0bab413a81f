import { SnugError } from '../contract/errors.js';
import type { Dtype, Provider, WeightFormat } from '../contract/types.js';
import { cloneModel, removeDeadNodesAndInitializers, walkGraphs } from '../onnx/graph.js';
import type { Model, Node } from '../onnx/model.js';
import { raiseOpset } from '../onnx/opset.js';
import { weightSqnr } from './damage.js';
import { encodeDequantize, encodeDequantizeBlocks } from './dequantize.js';
import { encodeConvInteger, encodeMatMulInteger } from './dynamic.js';
import { Editor } from './editor.js';
import { convertToFloat16 } from './float16.js';
import { overflowingNodes, type Magnitudes } from './float16-islands.js';
import { encodeGather } from './gather.js';
import { encodeLstm, otherWeight } from './lstm.js';
import { encodeMatMulBnb4, encodeMatMulNBits } from './matmul-nbits.js';
import { otherChanges } from './notes.js';
import { leastOpset } from './obstacles.js';
import { beforeQuantizing, roundsActivations, scaleChannels } from './passes.js';
import { blockBits, planEncoding, type EncodingPlan } from './plan.js';
import type { ActivationRanges } from './ranges.js';
import type { RefinedWeight } from './refine.js';
import type { AppliedScales } from './scalable.js';
import { collectSites, hoistConstants, type WeightSite, type WeightUse } from './sites.js';
import { applyStatic } from './static.js';
import { fallbacks, type Encoding } from './truth.js';
import { operatorsOf } from './weights.js';

export interface QuantizeOptions {
  provider: Provider;
  /** Needed for int8-static; makes int8-dynamic lose less. */
  ranges?: ActivationRanges;
  /** For fp16: how far values reach ({@link collectMagnitudes}); what would overflow then stays float32. */
  magnitudes?: Magnitudes;
  /** Codes chosen on samples ({@link refineWeights}). */
  refined?: ReadonlyMap<string, RefinedWeight>;
  /** For int8-static and int8-dynamic: weights are uint8 around 128 ({@link needsUnsignedWeights}); default false. */
  unsignedWeights?: boolean;
  /** Power of two ≥ 16 for block formats; default 32 for 4-bit, the smallest result for 8-bit. */
  blockSize?: number;
  /** How codes of weights alone (int8, int4, int2) are chosen: by a search for the best scales (default), or plainly rounded to the nearest. */
  rounding?: 'search' | 'nearest';
  onProgress?: (done: number, total: number, item?: string) => void;
}

/** What became of one weight. */
export interface QuantizedWeight {
  name: string;
  operator: string;
  dtype: Dtype;
  encoding: string;
  bytesBefore: number;
  bytesAfter: number;
  /** As asked for this weight. */
  blockSize?: number;
  zeroPoints?: boolean;
  /** Signal-to-noise ratio of the weight on a sample of its values; null when it was not changed. Computed when read. */
  readonly sqnrDb: number | null;
  /** Why it stayed as it was or got a wider format than asked. */
  reason?: string;
}

/** A quantized model. */
export interface Quantized {
  model: Model;
  weights: QuantizedWeight[];
  /** Values that have their name but not their numbers from the original: they are divided by these scales. */
  scaled: ReadonlyMap<string, AppliedScales>;
  /** What else changed: a newer opset, for instance. */
  notes: string[];
}

/**
 * A new model with weights in the number formats asked for. Nothing is quantized yet: the new tensors compute
 * their bytes when a writer asks, one weight at a time. What a weight cannot have on the provider falls back to
 * the next wider format, or stays as it is, with the reason. The opset is raised where a format chosen needs it.
 * @param assignment weight name ({@link quantizableWeights}) → format; weights not named stay as they are. A format's
 *   own block size goes before `options.blockSize`. With any fp16, the whole model computes in float16, except around weights that are named fp32.
 * @throws SnugError E_BAD_REQUEST for a name the model has no weight for, or a block size that is no power of two.
 */
export function quantizeModel(
  model: Model,
  assignment: ReadonlyMap<string, Dtype | WeightFormat>,
  options: QuantizeOptions,
): Quantized {
  const formatOf = (name: string): WeightFormat => {
    // A vector that folding or scaling made was not there to be named.
    const asked = assignment.get(name) ?? (known.has(name) ? 'fp32' : 'int8-static');
    const format = typeof asked === 'string' ? { dtype: asked } : asked;
    return { ...(options.blockSize === undefined ? {} : { blockSize: options.blockSize }), ...format };
  };
  requireBlockSize(options.blockSize);
  for (const format of assignment.values()) requireBlockSize(typeof format === 'string' ? undefined : format.blockSize);
  const clone = cloneModel(model);
  hoistConstants(clone);
  const known = new Set(collectSites(clone).map((site) => site.name));
  for (const name of assignment.keys()) {
    if (!known.has(name)) {
      throw new SnugError('E_BAD_REQUEST', `The model has no weight named "${name}".`, { params: { weight: name } });
    }
  }
  if ([...assignment.keys()].some((name) => formatOf(name).dtype !== 'fp32')) beforeQuantizing(clone);
  const calibrated = [...assignment.keys()].filter((name) => roundsActivations(formatOf(name).dtype));
  const scaled = scaleChannels(clone, options.ranges?.scales ?? new Map<string, Float64Array>(), new Set(calibrated));
  const sites = collectSites(clone);
  const editor = new Editor(
    clone,
    options.provider,
    options.ranges ?? null,
    options.refined,
    options.unsignedWeights,
    options.rounding === 'nearest',
  );
  const weights: QuantizedWeight[] = [];
  const overflowing = overflowingNodes(clone.graph, options.magnitudes ?? new Map());
  const chosen = sites.map((site) => settle(editor, site, formatOf(site.name), overflowing));
  for (const index of lonelyWeights(sites, chosen)) {
    const settled = settle(editor, sites[index]!, { dtype: 'int8' }, overflowing);
    chosen[index] = { ...settled, reason: 'not int8-dynamic: the other weight of its layer is not' };
  }
  raiseOpset(clone, Math.max(0, ...chosen.flatMap(({ plan }) => plan.encodings.map((one) => leastOpset[one]))));
  sites.forEach((site, index) => {
    const { dtype, plan, reason } = chosen[index]!;
    const { blockSize, zeroPoints } = formatOf(site.name);
    options.onProgress?.(index, sites.length, site.name);
    editor.blockSize = blockSize;
    editor.zeroPoints = zeroPoints;
    if (dtype !== 'fp32') applyEncodings(editor, site, dtype, plan.encodings);
    weights.push({
      name: site.name,
      operator: operatorsOf(site),
      dtype,
      encoding: plan.encodings.length === 0 ? 'none' : [...new Set(plan.encodings)].join(' + '),
      bytesBefore: site.tensor.data.byteLength,
      bytesAfter: plan.bytesAfter,
      ...(blockSize === undefined ? {} : { blockSize }),
      ...(zeroPoints === undefined ? {} : { zeroPoints }),
      get sqnrDb() {
        return dtype === 'fp32' ? null : weightSqnr(site, { dtype, blockSize, zeroPoints }, editor.nearest);
      },
      ...(reason === undefined ? {} : { reason }),
    });
  });
  const staticSites = sites.flatMap((site, index) => {
    const { encodings } = chosen[index]!.plan;
    const uses = site.uses.filter((_, use) => encodings[use] === 'QDQ');
    return uses.length > 0 ? [{ site, uses }] : [];
  });
  if (staticSites.length > 0) {
    applyStatic(editor, staticSites);
    for (const { site } of staticSites) dropWeight(site);
  }
  if (chosen.some(({ dtype }) => dtype === 'fp16')) {
    const pinned = sites.filter(
      (site, index) =>
        chosen[index]!.dtype === 'fp32' && assignment.has(site.name) && formatOf(site.name).dtype === 'fp32',
    );
    convertToFloat16(editor, new Set(pinned.map((site) => site.tensor.name)), overflowing.keys());
  }
  removeDeadNodesAndInitializers(clone.graph);
  options.onProgress?.(sites.length, sites.length);
  return { model: clone, weights, scaled, notes: otherChanges(model, clone) };
}

function requireBlockSize(blockSize: number | undefined): void {
  if (blockSize === undefined) return;
  if (blockSize >= 16 && blockSize <= 256 && Number.isInteger(Math.log2(blockSize))) return;
  throw new SnugError('E_BAD_REQUEST', `The block size must be 16, 32, 64, 128 or 256, not ${blockSize}.`, {
    params: { blockSize },
  });
}

interface Settled {
  dtype: Dtype;
  plan: EncodingPlan;
  reason?: string;
}

/** The format asked for, or the next wider one that is possible, and why. */
function settle(
  editor: Editor,
  site: WeightSite,
  format: WeightFormat,
  overflowing: ReadonlyMap<Node, number>,
): Settled {
  const wanted = format.dtype;
  const stays = planEncoding(editor.model, site, { dtype: 'fp32' }, editor.provider);
  if (wanted === 'fp32') return { dtype: 'fp32', plan: stays };
  const reach = Math.max(...site.uses.map(({ node }) => overflowing.get(node) ?? 0));
  if (wanted === 'fp16' && reach > 0) {
    const reason = `values there reach ${reach.toExponential(0)}, too close to the end of float16 (65504)`;
    return { dtype: 'fp32', plan: stays, reason };
  }
  const reasons: string[] = [];
  for (const dtype of fallbacks[wanted]) {
    const plan = planEncoding(editor.model, site, { ...format, dtype }, editor.provider);
    const missing = plan.allowed && roundsActivations(dtype) ? activationObstacle(editor, site, plan) : null;
    if (plan.allowed && missing === null) {
      const reason = reasons.length > 0 ? `not ${wanted}: ${reasons[0]!}` : undefined;
      return reason === undefined ? { dtype, plan } : { dtype, plan, reason };
    }
    const why = missing ?? plan.reason ?? 'not possible';
    if (!reasons.includes(why)) reasons.push(why);
  }
  return { dtype: 'fp32', plan: stays, reason: reasons.join('; ') };
}

/** Weights of integer LSTM layers whose other weight got another form: a layer has both or none. */
function lonelyWeights(sites: readonly WeightSite[], chosen: readonly Settled[]): Set<number> {
  const lonely = new Set<number>();
  const integer = (index: number): boolean =>
    !lonely.has(index) && chosen[index]!.plan.encodings.includes('DynamicQuantizeLSTM');
  for (let before = -1; before < lonely.size;) {
    before = lonely.size;
    const kept = new Set(sites.filter((_, index) => integer(index)).map(({ tensor }) => tensor.name));
    sites.forEach(({ uses }, index) => {
      if (integer(index) && uses.some((use) => !kept.has(otherWeight(use)))) lonely.add(index);
    });
  }
  return lonely;
}

/**
 * Below this signal-to-noise ratio in dB at a result, its 8-bit activations are the worst of the model: 6 bits are
 * left. Ranges taken while running are judged by the outermost value of all samples, most of which reach less far; yet
 * nothing clips them where that would pay.
 */
const leastActivationDb = { calibrated: 30, dynamic: 33 };

/** Why 8-bit activations cannot be had, or should not as far as samples tell; null when they can. */
function activationObstacle({ ranges }: Editor, site: WeightSite, { needsSamples }: EncodingPlan): string | null {
  const inputs = site.uses.filter(({ role }) => role !== 'gather').map(({ node }) => node.inputs[0]!);
  if (needsSamples) {
    if (ranges === null) return 'needs calibration samples';
    if (inputs.some((input) => ranges.get(input) === undefined)) return 'calibration saw no values of its input';
  }
  // Convolutions stay: their 8-bit neighbours would have to widen for them, and unpacked weights take memory.
  if (site.uses.every(({ role }) => role !== 'matmul' && role !== 'gemm')) return null;
  const known = needsSamples ? ranges?.outputDb : ranges?.dynamicDb;
  const worst = Math.min(...inputs.map((input) => known?.get(input) ?? Infinity));
  if (worst >= leastActivationDb[needsSamples ? 'calibrated' : 'dynamic']) return null;
  return `8-bit activations would leave ${worst.toFixed(0)} dB of its result, so they stay float and only the weight is 8-bit`;
}

/** Rewrites all uses of a weight, grouped by encoding, and drops the float weight when nothing reads it any more. */
function applyEncodings(editor: Editor, site: WeightSite, dtype: Dtype, encodings: readonly Encoding[]): void {
  const bits = blockBits(dtype);
  const groups = new Map<Encoding, WeightUse[]>();
  site.uses.forEach((use, i) => {
    const encoding = encodings[i]!;
    groups.set(encoding, [...(groups.get(encoding) ?? []), use]);
  });
  for (const [encoding, uses] of groups) {
    switch (encoding) {
      case 'MatMulNBits':
        encodeMatMulNBits(editor, site, uses, bits);
        break;
      case 'MatMulBnb4':
        encodeMatMulBnb4(editor, site, uses);
        break;
      case 'GatherBlockQuantized':
        encodeGather(editor, site, uses, bits);
        break;
      case 'DequantizeLinear':
        encodeDequantize(editor, site, uses);
        break;
      case 'DequantizeLinear-blocks':
        encodeDequantizeBlocks(editor, site, uses);
        break;
      case 'MatMulInteger':
        encodeMatMulInteger(editor, site, uses);
        break;
      case 'DynamicQuantizeLSTM':
        encodeLstm(editor, site, uses);
        break;
      case 'ConvInteger':
        encodeConvInteger(editor, site, uses);
        break;
      case 'QDQ': // Needs all such weights together: applyStatic.
      case 'float16':
      case 'none':
        break;
    }
  }
  if (!encodings.includes('QDQ') && !encodings.includes('float16')) dropWeight(site);
}

/** Removes the float weight (and the constant Transposes of it) unless something still reads it. */
function dropWeight(site: WeightSite): void {
  const { owner, tensor, uses } = site;
  const transposes = new Set(uses.map((use) => use.transpose));
  let read = false;
  walkGraphs(owner, (graph) => {
    graph.nodes = graph.nodes.filter((node) => !transposes.has(node));
    read ||= graph.nodes.some((node) => node.inputs.includes(tensor.name));
  });
  if (read) return;
  owner.initializers.delete(tensor.name);
  owner.valueInfo.delete(tensor.name);
}
