import { dtypes, type Dtype, type Provider } from '../contract/types.js';
import { cloneModel } from '../onnx/graph.js';
import type { Model } from '../onnx/model.js';
import { planEncoding } from './plan.js';
import { collectSites, hoistConstants, type WeightRole, type WeightSite } from './sites.js';
import type { Encoding } from './truth.js';

/** One number format for one weight on one execution provider. */
export interface WeightOption {
  dtype: Dtype;
  /** How it is written; several, joined by " + ", when operators of different kinds share the weight. */
  encoding: Encoding | string;
  /** Bytes in the model: codes, scales, zero points. */
  bytesAfter: number;
  /** Bytes held between runs by the provider, packed copies included, as far as known. */
  residentBytes: number;
  /** Bytes of the full-precision copy that exists only while its operator runs. */
  transientBytes: number;
  allowed: boolean;
  /** Why not allowed, or what to know when it is. */
  reason?: string;
  /** Needs activation ranges ({@link collectRanges}). */
  needsSamples: boolean;
}

/** A float weight of a model and what could be done with it. */
export interface WeightInfo {
  /** Name of the initializer (or of the Constant node's output), unique in the model. */
  name: string;
  /** Types of the operators that read it, joined by ", ". */
  operator: string;
  role: WeightRole;
  dims: number[];
  bytesBefore: number;
  /** One entry for each dtype, fp32 (unchanged) included. */
  options: WeightOption[];
}

interface Prepared {
  model: Model;
  sites: WeightSite[];
}

const preparedModels = new WeakMap<Model, Prepared>();

/** A clone with constants hoisted, and its weights; kept for as long as the model, which must not be edited meanwhile. */
export function prepared(model: Model): Prepared {
  let known = preparedModels.get(model);
  if (known === undefined) {
    const clone = cloneModel(model);
    hoistConstants(clone);
    known = { model: clone, sites: collectSites(clone) };
    preparedModels.set(model, known);
  }
  return known;
}

/**
 * Every float weight of a model (two or more dimensions, or 1024 or more values; constants and bodies of If and
 * Loop included) with what each number format would do to it on an execution provider.
 * @param options.blockSize power of two ≥ 16 for block formats; default 32 for 4-bit, the smallest result for 8-bit.
 */
export function quantizableWeights(
  model: Model,
  provider: Provider,
  options: { blockSize?: number } = {},
): WeightInfo[] {
  const { model: clone, sites } = prepared(model);
  return sites.map((site) => ({
    name: site.name,
    operator: operatorsOf(site),
    role: site.uses[0]?.role ?? 'other',
    dims: [...site.tensor.dims],
    bytesBefore: site.tensor.data.byteLength,
    options: dtypes.map((dtype) => {
      const plan = planEncoding(clone, site, { dtype, ...options }, provider);
      return {
        dtype,
        encoding: plan.encodings.length === 0 ? 'none' : [...new Set(plan.encodings)].join(' + '),
        bytesAfter: plan.bytesAfter,
        residentBytes: plan.residentBytes,
        transientBytes: plan.transientBytes,
        allowed: plan.allowed,
        needsSamples: plan.needsSamples,
        ...(plan.reason === undefined ? {} : { reason: plan.reason }),
      };
    }),
  }));
}

export function operatorsOf(site: WeightSite): string {
  return [...new Set(site.uses.map((use) => use.node.opType))].join(', ');
}
