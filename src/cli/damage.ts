import { comparedOn, cosineText, decibelText, klText } from '../app/damage-text.js';
import { adviceOf, damageAdvice, measureBands } from '../contract/damage-bands.js';
import type { Quality } from '../contract/types.js';
import { percent, table } from './format.js';

/** Layers named on the terminal; the JSON and HTML reports have all of them. */
const shownLayers = 5;

/** The damage report on a terminal: every measure with its band, what to do, outputs and the worst layers. */
export function damageLines(quality: Quality): string[] {
  const { accuracy, perplexity, top1Agreement: same, klNats: kl, sqnrDb, cosine, damage, outputs = [] } = quality;
  const bands = measureBands(quality);
  const rows = [
    ...(accuracy
      ? [
          [
            'right answers',
            `${percent(accuracy.before)} → ${percent(accuracy.after)}`,
            `of ${accuracy.samples} labelled`,
          ],
        ]
      : []),
    ...(perplexity
      ? [
          [
            'perplexity',
            `${perplexity.before.toFixed(3)} → ${perplexity.after.toFixed(3)}`,
            `on ${perplexity.tokens} tokens`,
          ],
        ]
      : []),
    ...(same === null ? [] : [['same answer (top 1)', percent(same), bands.top1 ?? '']]),
    ...(kl === null ? [] : [['KL divergence', klText(kl), bands.kl ?? '']]),
    ['output to error (SQNR)', decibelText(sqnrDb), bands.sqnr],
    ['cosine similarity', cosineText(cosine), ''],
  ];
  const worst = [...(quality.layers ?? [])].sort((a, b) => a.sqnrDb - b.sqnrDb).slice(0, shownLayers);
  return [
    `Damage ${damage.band}, on ${comparedOn(quality)}.`,
    damageAdvice[adviceOf(quality)],
    '',
    table(['measure', 'value', 'damage'], rows, [1]),
    ...(outputs.length > 1
      ? [
          '',
          table(
            ['output', 'same', 'KL', 'SQNR', 'cosine', 'damage'],
            outputs.map((one) => [
              one.value,
              one.top1Agreement === null ? '–' : percent(one.top1Agreement),
              one.klNats === null ? '–' : klText(one.klNats),
              decibelText(one.sqnrDb),
              cosineText(one.cosine),
              one.damage.band,
            ]),
            [1, 2, 3, 4],
          ),
        ]
      : []),
    ...(worst.length > 0
      ? [
          '',
          table(
            ['layers farthest from the original', 'format', 'SQNR', 'cosine', 'damage'],
            worst.map((one) => [
              one.layer,
              one.dtype,
              decibelText(one.sqnrDb),
              cosineText(one.cosine),
              one.damage.band,
            ]),
            [2, 3],
          ),
        ]
      : []),
  ];
}
