import { damageAdvice } from '../../src/contract/damage-bands.js';
import type { Formats } from './format.js';
import { items } from './plural.en.js';

/** Words of the damage report: how far the answers moved, and what to do about it. */
export const damageEn = ({ decimal, percent }: Formats) => ({
  damageReport: {
    title: 'What it cost',
    verdict: (band: string): string => `Damage: ${band}`,
    advice: damageAdvice,
    onSamples: (samples: number): string =>
      `Compared on ${items(samples, 'sample', 'samples')} that nothing was fitted to.`,
    onFitted: (samples: number): string =>
      `Compared on ${items(samples, 'sample', 'samples')}, the same the result was fitted to, too few to keep some out: other inputs may lose more.`,
    onRandom: 'Compared on random inputs, which tell little about real ones.',
    columns: { measure: 'Measure', value: 'Value', damage: 'Damage' },
    sameAnswer: 'Same answer (top 1)',
    kl: 'KL divergence',
    nats: (value: number): string => `${value > 0 && value < 0.0001 ? '<\u00a00.0001' : decimal(value, 4)}\u00a0nats`,
    sqnr: 'Output to error (SQNR)',
    db: (value: number): string => (value >= 200 ? 'no error' : `${decimal(value, 1)}\u00a0dB`),
    cosine: 'Cosine similarity',
    cosineValue: (value: number): string => (value < 1 && value > 0.999995 ? '>\u00a00.99999' : decimal(value, 5)),
    perplexity: 'Perplexity',
    perplexityChange: (before: number, after: number): string => `${decimal(before, 2)} → ${decimal(after, 2)}`,
    perplexityNote: (change: number, tokens: number): string =>
      `${change > 0 ? '+' : change < 0 ? '−' : ''}${percent(Math.abs(change), 1)} on ${items(tokens, 'token', 'tokens')}`,
    right: 'Right answers',
    rightChange: (before: number, after: number): string => `${percent(before, 1)} → ${percent(after, 1)}`,
    rightNote: (samples: number): string => `on ${items(samples, 'labelled sample', 'labelled samples')}`,
    outputs: 'Output by output',
    output: 'Output',
    layers: 'Layer by layer',
    layersHelp:
      'How far the output of each layer is from the original’s, with all layers before it changed as well. A sudden step down shows a layer that does harm: give it a wider format.',
    layersLabel: (layers: number, worst: string, db: string): string =>
      `Output to error over ${items(layers, 'layer', 'layers')}; the lowest is ${worst} with ${db}.`,
    layerColumns: {
      layer: 'Layer',
      operator: 'Operator',
      format: 'Format',
      sqnr: 'SQNR',
      cosine: 'Cosine',
      damage: 'Damage',
    },
    worst: (layer: string): string => `Farthest from the original: ${layer}`,
    bands: 'What the words mean',
    bandColumns: { damage: 'Damage', kl: 'KL divergence', changed: 'Answers changed', sqnr: 'SQNR' },
    bandsHelp: 'The worse of the first two counts; the third where an output is no list of classes.',
    below: (limit: string): string => `below ${limit}`,
    from: (limit: string): string => `from ${limit}`,
    beyond: 'beyond',
  },
});
