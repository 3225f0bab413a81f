import type { Formats } from './format.js';
import { items } from './plural.en.js';

/** Words of the running job and of its result. */
export const outcomeEn = ({ bytes, bytesPair, clock, count, decimal, percent }: Formats) => ({
  working: {
    title: (name: string): string => `Making ${name} snug`,
    progress: 'Progress',
    elapsed: 'Elapsed',
    left: 'Left',
    leftAbout: (seconds: number): string =>
      seconds < 90
        ? `about ${count(Math.max(5, Math.round(seconds / 5) * 5))} s`
        : `about ${items(Math.round(seconds / 60), 'minute', 'minutes')}`,
    stop: 'Stop',
    stopping: 'Stopping…',
    originalSafe: 'Your original is only read, never written.',
    weights: (done: number, total: number): string => `${count(done)} of ${items(total, 'weight', 'weights')}`,
    nodes: (done: number, total: number): string => `${count(done)} of ${items(total, 'node', 'nodes')}`,
    samples: (done: number, total: number): string => `${count(done)} of ${items(total, 'sample', 'samples')}`,
    runs: (done: number, total: number): string => `${count(done)} of ${items(total, 'run', 'runs')}`,
    bytes: (done: number, total: number): string => `${bytes(done)} of ${bytes(total)}`,
    percent: (share: number): string => `${percent(share)} done`,
    item: (item: string): string => (item === 'original' ? 'the original' : item),
    finished: 'Finished',
    stoppedNothing: 'Stopped. Nothing was changed.',
    stoppedKept: 'Stopped. The best so far was kept.',
    failedKept: 'It did not finish, but the best so far was kept.',
    pending: 'to do',
    skipped: 'not needed',
    now: 'now',
    done: 'done',
  },

  result: {
    fits: (size: number, budget: number): string => {
      const [s, b] = bytesPair(size, budget);
      return `Fits: ${s} measured, ${b} allowed.`;
    },
    fitsPredicted: (size: number, budget: number): string => {
      const [s, b] = bytesPair(size, budget);
      return `Fits by prediction: ${s} of ${b}. It was not measured.`;
    },
    doesNotFit: (size: number, budget: number): string => {
      const [s, b] = bytesPair(size, budget);
      return `Does not fit: ${s} measured, ${b} allowed.`;
    },
    noOutput: 'No file was written.',
    column: { measure: 'Measure', before: 'Before', after: 'After', predicted: 'Predicted', note: 'Note' },
    memory: 'Peak memory',
    file: 'File',
    parameters: 'Parameters',
    speed: 'Time per run',
    answers: 'Answers',
    batch: (batch: number): string => `batch ${count(batch)}`,
    within: (share: number): string => `${percent(Math.abs(share))} ${share > 0 ? 'above' : 'below'} the prediction`,
    exact: 'as predicted',
    sameSize: 'same size',
    smaller: (share: number): string => `${percent(share)} smaller`,
    larger: (share: number): string => `${percent(share)} larger`,
    faster: (ratio: number): string => `${decimal(ratio, 1)}× faster`,
    slower: (ratio: number): string => `${decimal(1 / ratio, 1)}× slower`,
    sameSpeed: 'about the same speed',
    same: (share: number): string => `${percent(share, share === 1 ? 0 : 1)} the same`,
    close: (db: number): string => `${decimal(db, 0)} dB`,
    onSamples: (n: number): string => `on ${count(n)} of your samples`,
    onRandom: 'with random inputs; not a measure of accuracy',
    notCompared: 'not compared',
    estimated: 'estimated',
    show: 'Show in folder',
    download: 'Download the model',
    reportHtml: 'Save report',
    reportJson: 'Save plan as JSON',
    again: 'Start again',
    adjust: 'Change the plan',
    layers: 'What changed, layer by layer',
    live: 'Memory while it runs',
    tried: 'Plans tried',
    triedOver: 'over the budget',
    triedFits: (band: string | null): string => (band === null ? 'fits' : `fits, damage ${band}`),
    triedColumns: { plan: 'Plan', predicted: 'Predicted', measured: 'Measured', outcome: 'Outcome' },
    notes: 'Worth knowing',
    took: (seconds: number): string => `Took ${seconds < 60 ? `${decimal(seconds, 1)} s` : clock(seconds * 1000)}.`,
    widths: 'Layers made narrower',
    fallbacks: (n: number): string => `${items(n, 'node', 'nodes')} ran on the CPU`,
  },
});
