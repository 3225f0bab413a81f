import type { Dtype } from '../contract/types.js';
import { freshName } from '../onnx/graph.js';
import type { Model } from '../onnx/model.js';
import { foldBatchNormalization } from './batch-norm.js';
import { planEncoding } from './plan.js';
import { applyScales, type AppliedScales } from './scalable.js';
import { collectSites, hoistConstants, type WeightSite, type WeightUse } from './sites.js';

/** Whether a format computes with 8-bit activations, so that samples of them tell what it costs. */
export const roundsActivations = (dtype: Dtype): boolean => dtype === 'int8-static' || dtype === 'int8-dynamic';

/** A weight that can have static int8 form, and the uses that can. */
export interface StaticSite {
  site: WeightSite;
  uses: WeightUse[];
}

/** What is done to a model before its weights are looked at, in place: nothing that changes what it computes. */
export function beforeQuantizing(model: Model): void {
  hoistConstants(model);
  foldBatchNormalization(model.graph, (base) => freshName(model.graph, base));
}

/**
 * Every Conv, Gemm and MatMul weight that can have static int8 form once its activation has a range.
 * @param only names of those that shall have it; all when left out.
 */
export function staticSites(model: Model, only?: ReadonlySet<string>): StaticSite[] {
  return collectSites(model).flatMap((site) => {
    if (only?.has(site.name) === false) return [];
    const plan = planEncoding(model, site, { dtype: 'int8-static' }, 'cpu');
    const uses = plan.allowed ? site.uses.filter((_, use) => plan.encodings[use] === 'QDQ') : [];
    return uses.length > 0 ? [{ site, uses }] : [];
  });
}

/**
 * Scales channels as calibration found best ({@link applyScales}), in place.
 * @param only as in the calibration, so that the same constants take the scales.
 * @returns values that are now divided by their scales under the same name.
 */
export function scaleChannels(
  model: Model,
  scales: ReadonlyMap<string, Float64Array>,
  only?: ReadonlySet<string>,
): ReadonlyMap<string, AppliedScales> {
  if (scales.size === 0) return new Map();
  const sites = staticSites(model, only).map(({ site }) => site);
  return applyScales(model.graph, sites, scales, (base) => freshName(model.graph, base));
}
