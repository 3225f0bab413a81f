/** What a calibration run saw of one activation. */
export interface ActivationRange {
  /** Smallest and largest value worth representing (already clipped to lower the squared error). */
  low: number;
  high: number;
}

/** Ranges of activations by value name. */
export interface ActivationRanges {
  get(value: string): ActivationRange | undefined;
}

/**
 * Stands in for real ranges while a plan is only being sized: every activation has one. A model quantized with
 * it has the right structure and bytes, and must not be run.
 */
export const anyRanges: ActivationRanges = { get: () => ({ low: -1, high: 1 }) };
