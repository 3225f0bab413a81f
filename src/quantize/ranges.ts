/** What a calibration run saw of one activation. */
export interface ActivationRange {
  /** Smallest and largest value worth representing (already clipped to lower the squared error). */
  low: number;
  high: number;
}

/** What a calibration run saw of each channel of an activation that a weight multiplies. */
export interface ChannelStatistics {
  low: Float64Array;
  high: Float64Array;
  mean: Float64Array;
  /** Mean of the squares. */
  square: Float64Array;
}

/** Ranges of activations by value name, and what else calibration learnt; planning has ranges only. */
export interface ActivationRanges {
  get(value: string): ActivationRange | undefined;
  /** Channels of the activations that weights multiply, after {@link scales} were folded in. */
  readonly channels?: ReadonlyMap<string, ChannelStatistics>;
  /** Value → what each of its channels is divided by, and the weights that read it multiplied by, before quantizing. */
  readonly scales?: ReadonlyMap<string, Float64Array>;
  /** Value → signal-to-noise ratio in dB that its 8 bits alone leave of the results it feeds. */
  readonly outputDb?: ReadonlyMap<string, number>;
  /** The same for a range that is taken while running, which reaches to the outermost value. */
  readonly dynamicDb?: ReadonlyMap<string, number>;
}
