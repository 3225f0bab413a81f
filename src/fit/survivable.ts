import type { ErrorCode } from '../contract/errors.js';

/** Failures of one model that say nothing of another, or of another way to run it. */
export const survivable: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  'E_OUT_OF_MEMORY',
  'E_ENGINE_CRASHED',
  'E_MODEL_REJECTED',
  'E_RUN_FAILED',
  'E_UNKNOWN_OPERATOR',
]);
