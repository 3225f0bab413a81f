export { collectRanges, type CollectOptions } from './collect.js';
export { estimateSqnr } from './damage.js';
export { quantizeModel, type QuantizedWeight, type QuantizeOptions } from './quantize.js';
export { refineWeights, type RefinedWeight, type RefineOptions } from './refine.js';
export type { ActivationRange, ActivationRanges } from './ranges.js';
export { quantizableWeights, type WeightInfo, type WeightOption } from './weights.js';
export { decodeWeight } from './decode.js';
export { formatOptions, type FormatOption } from './formats.js';
export { hoistConstants } from './sites.js';
