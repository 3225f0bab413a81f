/** Measures of damage in English, for the command line and the saved report. */

export const decibelText = (db: number): string => (db >= 200 ? 'no error' : `${db.toFixed(1)} dB`);

export const klText = (kl: number): string => `${kl > 0 && kl < 0.0001 ? '<0.0001' : kl.toFixed(4)} nats`;

/** Never 1 where something differs. */
export const cosineText = (value: number): string => (value < 1 && value > 0.999995 ? '>0.99999' : value.toFixed(5));

/** What the answers were compared on: "Damage small, on …". */
export function comparedOn({
  source,
  samples,
  samplesGiven,
  fitted,
}: {
  source: 'samples' | 'random';
  samples: number;
  samplesGiven?: number;
  fitted?: boolean;
}): string {
  if (source === 'random') return 'random inputs, which are no measure of accuracy';
  return fitted === true
    ? `the same ${samples} samples it was fitted to, too few to keep some out: other inputs may lose more`
    : `${samples}${samplesGiven === undefined ? '' : ` of ${samplesGiven}`} samples`;
}
