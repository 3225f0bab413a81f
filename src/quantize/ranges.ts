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
