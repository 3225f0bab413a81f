/**
 * The words of Snug as types, shared by the engine and all doors. Sizes are bytes (field names end in
 * `Bytes`), times are milliseconds (`Ms`) unless said otherwise. One word for one thing: see docs/words in
 * ARCHITECTURE.md.
 */

export * from './vocabulary.js';
export * from './hardware.js';
export * from './summary.js';
export * from './memory.js';
export * from './accuracy.js';
export * from './plan.js';
export * from './plan-view.js';
export * from './pruning.js';
export * from './report.js';
export * from './jobs.js';
