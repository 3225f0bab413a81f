export { findClasses, type PruneClass, type PruneMember } from './classes.js';
export { expectedPruneDamage, pruneCurve, type PruneCurve } from './damage.js';
export { previewPrune, pruneModel, type ModelSize, type PruneResult } from './prune.js';
export { analysisDims, type ClassRepair, type PruneDamage, type PruneRequest, type PruneSamples } from './request.js';
export { sparsifyModel, type SparseWeight, type SparsifyRequest, type SparsifyResult } from './sparsify.js';
export type { SparsityPattern } from './sparse-rows.js';
export { planWidths, type WidthRequest } from './widths.js';
