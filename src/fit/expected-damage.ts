import type { Damage, Pins, PruneCurve, PruneMethod } from '../contract/types.js';
import { expectedPruneDamage } from '../prune/index.js';
import { damageFromSqnr } from '../quality/metrics.js';
import type { Analysis } from './analysis.js';
import type { Level } from './levels.js';
import { assignDtypes } from './levels.js';

/** Share of the error of plain removal that is left by each method (measured on the sample models). */
const noiseLeft: Record<PruneMethod, number> = {
  random: 2,
  magnitude: 1,
  activation: 0.7,
  repair: 0.05,
};

/** The same for `repair` on made-up inputs, which show less of what units have in common. */
const noiseLeftByMadeUp = 0.3;

/**
 * Expected output damage of a ratio and level, without building anything: summed weight noise of the dtypes plus
 * what pruning does ({@link pruneNoise}). A measured ratio alone is told as it was measured.
 */
export function expectedDamage(
  analysis: Analysis,
  level: Level,
  ratio: number,
  method: PruneMethod,
  pins: Pins,
): Damage {
  const pruned = pruneNoise(analysis, ratio, method, pins.classes);
  let noise = level.mix?.noise ?? 0;
  if (level.mix === undefined) {
    for (const [weight, dtype] of assignDtypes(analysis, analysis.weights, level, pins).dtypes) {
      noise += analysis.outputNoise(weight, dtype);
    }
  }
  const measured = noise === 0 && !pins.classes && measuredFor(analysis, method)?.points.find((p) => p.ratio === ratio);
  if (measured) return measured.damage;
  return damageOfNoise(noise + pruned);
}

/** Damage of pruning alone, from what the weights let expect: no measurement is looked at. */
export function expectedPruning(analysis: Analysis, ratio: number, method: PruneMethod): Damage {
  return damageOfNoise(energyLost(analysis, ratio, {}) * leftBy(analysis, method));
}

/** The measured curve, where it speaks of this method. */
export function measuredFor({ curve }: Analysis, method: PruneMethod): PruneCurve | null {
  return method === 'repair' && curve !== null && curve.points.length > 0 ? curve : null;
}

export function damageOfNoise(noise: number): Damage {
  return noise === 0 ? { band: 'none', sqnrDb: null } : damageFromSqnr(-10 * Math.log10(noise));
}

function leftBy(analysis: Analysis, method: PruneMethod): number {
  return method === 'repair' && !analysis.hasSamples ? noiseLeftByMadeUp : noiseLeft[method];
}

function energyLost(analysis: Analysis, ratio: number, perClass: Record<string, number>): number {
  if (analysis.classes.length === 0) return 0;
  const { model, classes, provider } = analysis;
  return 10 ** (-expectedPruneDamage(model, classes, { ratio, perClass, provider }) / 10);
}

/** Noise-to-signal power that pruning adds at the output: by the measured curve where there is one, else expected. */
function pruneNoise(
  analysis: Analysis,
  ratio: number,
  method: PruneMethod,
  perClass: Record<string, number> = {},
): number {
  if (ratio === 0 && Object.keys(perClass).length === 0) return 0;
  const lost = energyLost(analysis, ratio, perClass);
  const curve = measuredFor(analysis, method);
  if (curve === null) return lost * leftBy(analysis, method);
  const points = curve.points.flatMap(({ ratio: at, damage }) => {
    const expected = energyLost(analysis, at, {});
    return expected > 0 && damage.sqnrDb !== null ? [{ expected, measured: 10 ** (-damage.sqnrDb / 10) }] : [];
  });
  return interpolate(points, lost) ?? lost * leftBy(analysis, method);
}

/**
 * Measured noise at an expected one, on straight lines between points of a doubly logarithmic plot; in proportion
 * outside of them. Widths set one by one so find their place on a curve that was measured for ratios.
 * @param points by rising `expected`; null when there are none.
 */
export function interpolate(points: readonly { expected: number; measured: number }[], at: number): number | null {
  const above = points.findIndex(({ expected }) => expected >= at);
  const high = points[above === -1 ? points.length - 1 : above];
  if (high === undefined) return null;
  const low = points[above - 1];
  if (above <= 0 || low === undefined || low.expected === high.expected) return (high.measured * at) / high.expected;
  const share = Math.log(at / low.expected) / Math.log(high.expected / low.expected);
  return low.measured ** (1 - share) * high.measured ** share;
}
