import { adviceBand, bandOfAgreement, bandOfKl, bandOfSqnr, damageAdvice } from '../contract/damage-bands.js';
import type { Quality } from '../contract/types.js';
import { percent, table } from './format.js';

const decibels = (db: number): string => (db >= 200 ? 'no error' : `${db.toFixed(1)} dB`);
const nats = (kl: number): string => `${kl > 0 && kl < 0.0001 ? '<0.0001' : kl.toFixed(4)} nats`;
/** Never 1 where something differs. */
const cosines = (value: number): string => (value < 1 && value > 0.999995 ? '>0.99999' : value.toFixed(5));

/** Layers named on the terminal; the JSON and HTML reports have all of them. */
const shownLayers = 5;

/** The damage report on a terminal: every measure with its band, what to do, outputs and the worst layers. */
export function damageLines(quality: Quality): string[] {
  const { accuracy, perplexity, top1Agreement: same, klNats: kl, sqnrDb, cosine, damage, outputs = [] } = quality;
  const where =
    quality.source === 'samples' ? `${quality.samples} samples` : 'random inputs, which are no measure of accuracy';
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
    ...(same === null ? [] : [['same answer (top 1)', percent(same), bandOfAgreement(same)]]),
    ...(kl === null ? [] : [['KL divergence', nats(kl), bandOfKl(kl)]]),
    ['output to error (SQNR)', decibels(sqnrDb), bandOfSqnr(sqnrDb)],
    ['cosine similarity', cosines(cosine), ''],
  ];
  const worst = [...(quality.layers ?? [])].sort((a, b) => a.sqnrDb - b.sqnrDb).slice(0, shownLayers);
  return [
    `Damage ${damage.band}, on ${where}.`,
    damageAdvice[adviceBand(quality)],
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
              one.klNats === null ? '–' : nats(one.klNats),
              decibels(one.sqnrDb),
              cosines(one.cosine),
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
            worst.map((one) => [one.layer, one.dtype, decibels(one.sqnrDb), cosines(one.cosine), one.damage.band]),
            [2, 3],
          ),
        ]
      : []),
  ];
}
