import type { Formats } from './format.js';
import { items } from './plural.en.js';

/** Words of the plan: whether a model fits, what Snug would do, and how that was worked out. */
export const planEn = ({ bytes, bytesPair, compact, count, decimal, ms: duration, percent }: Formats) => {
  const atBatch = (batch: number | null): string => (batch === null ? '' : ` for batch ${count(batch)}`);
  return {
    plan: {
      parameters: (n: number): string => `${compact(n)} parameters`,
      kind: (kind: string): string => kind,
      verdictFits: (need: number, budget: number, batch: number | null): string => {
        const [n, b] = bytesPair(need, budget);
        const at = batch === null ? 'it needs' : `batch ${count(batch)} needs`;
        return `Fits as it is: ${at} ${n} of the ${b} you can use.`;
      },
      verdictTight: (need: number, budget: number, batch: number | null): string => {
        const [n, b] = bytesPair(need, budget);
        return `Tight: needs ${n}${atBatch(batch)}, ${b} can be used.`;
      },
      verdictNot: (need: number, budget: number, batch: number | null): string => {
        const [n, b] = bytesPair(need, budget);
        return `Does not fit: needs ${n}${atBatch(batch)}, ${b} can be used.`;
      },
      verdictUnknown: (reason: string): string => `Can’t tell how much it needs: ${reason}`,
      nothingToDo: ' Nothing to do.',
      nothingToDoMore: (spare: number): string => `${bytes(spare)} stays free while it runs.`,
      wouldFit: 'Snug would make it fit',
      wouldFitDo: 'Snug would do this',
      couldStill: 'Snug could still make it smaller',
      spare: (need: number, budget: number): string => {
        const [n, b] = bytesPair(need, budget);
        return `${n} of ${b}, ${bytes(Math.max(0, budget - need))} to spare`;
      },
      /** Parts of the plan as one sentence. */
      sentence: (parts: string[]): string => {
        const joined = parts.join(', ');
        return `${joined.charAt(0).toUpperCase()}${joined.slice(1)}.`;
      },
      sentenceUnchanged: 'weights unchanged',
      sentenceLevers: 'memory reserved only as each step needs it',
      sentenceDtype: (name: string, share: number): string =>
        share > 0.995 ? `${name} everywhere` : `${name} for ${percent(share)}`,
      sentenceRest: (name: string): string => `${name} for the rest`,
      sentenceMixed: (share: number, name: string): string => `mixed formats, ${percent(share)} ${name}`,
      sentencePruned: (ratio: number): string => `${percent(ratio)} pruned`,
      measuredWidths: 'widths by measured loss',
      recovered: 'trained on samples after pruning',
      tuned: 'trained on samples after quantization',
      sentenceNotPruned: 'nothing pruned',
      sentenceBatch: (batch: number): string => `batch ${count(batch)}`,
      sentenceProvider: (name: string): string => `on ${name}`,
      factMemory: 'Peak memory',
      factFile: 'File',
      factDamage: 'Expected damage',
      factBatch: 'Batch',
      factFormat: 'Format',
      damageDb: (band: string, db: number | null): string =>
        db === null ? band : `${band} (${decimal(db, 0)}\u00a0dB)`,
      ofBudget: (need: number, budget: number): string => bytesPair(need, budget).join(' of '),
      toSpare: (size: number): string => `${bytes(size)} to spare`,
      tooMuch: (size: number): string => `${bytes(size)} too much`,
      db: (db: number): string => `${decimal(db, 0)}\u00a0dB`,
      damageMeasured: 'the check will measure it',
      damageHelp:
        'How far the answers are expected to move: the strength of the original output over the error, in decibels. Higher is better; the check measures it.',
      make: 'Make it snug',
      makeAnyway: 'Make it snug anyway',
      halfBudget: (size: number): string => `Try a budget of ${bytes(size)}`,
      adjust: 'Adjust',
      adjustClose: 'Close adjustments',
      how: 'How we worked this out',
      solving: 'Working it out…',
      solvedIn: (ms: number): string => `Worked out in ${duration(ms)}.`,
      nothingFits: (budget: number): string => `Nothing Snug knows fits ${bytes(budget)}.`,
      smallest: (size: number): string => `The smallest it can reach is ${bytes(size)}.`,
      raise: (size: number): string => `Use ${bytes(size)} instead`,
      unpin: 'Back to Snug’s choice',
      unpinWhy: 'Your own settings stand in the way; without them there is more Snug can try.',
      unpinRest: 'Let Snug choose the rest',
      pinned: 'Set by you',
      data: {
        none: 'No samples of yours yet',
        why: 'With a few hundred inputs like your real ones Snug can repair what pruning removes, calibrate 8‑bit ranges, and measure how many answers change. Without them it can only check with random inputs.',
        attach: 'Add samples',
        replace: 'Replace',
        attached: (name: string, samples: number): string => `${items(samples, 'sample', 'samples')} from ${name}`,
        addLabels: 'Add labels',
        replaceLabels: 'Replace labels',
        labelsWhy: 'With the right class of each sample (.npy) Snug counts right answers before and after.',
        labelled: (labels: string): string => `Right answers will be counted with ${labels}.`,
        notCountable:
          'Right answers cannot be counted: the model has no output with a number for each class of a sample.',
        attaching: 'Reading the samples…',
      },
      worked: {
        needs: (size: number, provider: string): string =>
          `As it is, the model needs ${bytes(size)} on ${provider} at its peak.`,
        phases: (load: number, cold: number, warm: number): string =>
          `Loading ${bytes(load)}, first run ${bytes(cold)}, later runs ${bytes(warm)}; the largest counts.`,
        budget: (free: number, kept: number, budget: number): string =>
          `${bytes(free)} is free; ${bytes(kept)} is kept free, which leaves ${bytes(budget)}.`,
        budgetOwn: (budget: number): string => `You set the budget to ${bytes(budget)}.`,
        units: '1 GB is 1,000,000,000 bytes.',
        unknown: (list: string[]): string => `Sizes that could not be worked out: ${list.join(', ')}.`,
      },
    },
  };
};
