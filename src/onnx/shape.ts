export { batchDimension } from './shape-bindings.js';
export { defaultBindings } from './shape-defaults.js';
export { inferShapes, shapeGaps, type Shape, type ShapeGapReach, type ShapeResult } from './shape-infer.js';
export type { SizeConflict, UnknownValue } from './shape-graph.js';
export type { KnownData } from './shape-types.js';
export { ShapeFormulas } from './shape-formulas.js';
