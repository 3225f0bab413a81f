export { findClasses, type PruneClass, type PruneMember } from './classes.js';
export { expectedPruneDamage, pruneCurve, type PruneCurve } from './damage.js';
export { previewPrune, pruneModel, type ModelSize, type PruneResult } from './prune.js';
export type { ClassRepair, PruneRequest, PruneSamples } from './request.js';
export { planWidths, type WidthRequest } from './widths.js';
