import { dtypes } from '../../src/contract/types.js';
import type { DamageBand, Dtype } from '../../src/contract/types.js';
import type { Messages } from '../i18n/messages.js';

/** How the engine names its plans (`structureLabel`), and the number format each name stands for. */
const formats: Record<string, Dtype> = {
  fp16: 'fp16',
  '8-bit': 'int8',
  '8-bit with 8-bit activations': 'int8-static',
  '8-bit, activations quantized while running': 'int8-dynamic',
  '4-bit': 'int4',
  '4-bit from a table': 'nf4',
  '2-bit': 'int2',
};

const bands: readonly DamageBand[] = ['none', 'negligible', 'small', 'moderate', 'large', 'severe', 'unknown'];

/** A plan's name in the words the rest of the page has for it; a name of another make is shown as it came. */
export function planName(label: string, t: Messages): string {
  const [, plain = label, how] = /^(.*), trained on samples after (pruning|quantization)$/u.exec(label) ?? [];
  const pruned = /^(?:(.*), )?(\d+) % pruned(, widths by measured loss)?$/u.exec(plain);
  const format = pruned === null ? plain : (pruned[1] ?? 'unchanged');
  const parts = formatParts(format, t);
  if (parts === null) return label;
  const trained = how === undefined ? [] : [how === 'pruning' ? t.plan.recovered : t.plan.tuned];
  if (pruned === null) return t.app.clauses([...parts, ...trained]);
  return t.app.clauses([
    ...(format === 'unchanged' ? [] : parts),
    t.plan.sentencePruned(Number(pruned[2]) / 100),
    ...(pruned[3] === undefined ? [] : [t.plan.measuredWidths]),
    ...trained,
  ]);
}

function formatParts(format: string, t: Messages): string[] | null {
  if (format === 'unchanged') return [t.adjust.tradeoff.unchanged];
  const mixed = /^mixed formats, (\d+) % 4-bit$/u.exec(format);
  if (mixed !== null) return [t.plan.sentenceMixed(Number(mixed[1]) / 100, t.dtype.int4)];
  const dtype = formats[format] ?? dtypes.find((each) => each === format);
  return dtype === undefined ? null : [t.dtype[dtype]];
}

/** How a tried plan ended: over the budget, fitting with its damage, or the reason it failed. */
export function planOutcome(outcome: string, t: Messages): string {
  if (outcome === 'over the budget') return t.result.triedOver;
  const fits = /^fits(?:, damage (\w+))?$/u.exec(outcome);
  if (fits === null) return t.engine.sentence(outcome);
  const band = bands.find((each) => each === fits[1]);
  return t.result.triedFits(band === undefined ? null : t.damage[band]);
}
