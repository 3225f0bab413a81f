import type { LossKind, OptimizerKind, Schedule, TrainablePart, TrainingReport } from '../../src/contract/training.js';
import type { Formats } from './format.js';
import { items } from './plural.en.js';

const losses: Record<LossKind, string> = {
  'cross-entropy': 'The right class',
  mse: 'Numbers close to the targets',
  distill: 'The answers of another model',
};
const lossHelp: Record<LossKind, string> = {
  'cross-entropy': 'One whole number for each sample names its class (cross-entropy). Text learns the next token.',
  mse: 'Targets of the shape of the output, or another model (mean squared error).',
  distill: 'Needs no labels: a teacher, for example the model before it was pruned, shows the way (distillation).',
};
const parts: Record<TrainablePart, string> = {
  all: 'Every weight',
  'biases-and-norms': 'Biases and norms only',
  adapters: 'Low-rank adapters, merged at the end',
};
const optimizers: Record<OptimizerKind, string> = { adamw: 'AdamW', sgd: 'SGD with momentum' };
const schedules: Record<Schedule, string> = {
  cosine: 'Falls on a half cosine',
  linear: 'Falls on a line',
  constant: 'Stays the same',
};
const ended: Record<TrainingReport['ended'], (heldOut: number) => string> = {
  finished: () => 'Trained to the end.',
  'no longer better': (heldOut) => `Ended early: the ${heldOut > 0 ? 'held-out loss' : 'loss'} no longer fell.`,
  stopped: () => 'Stopped. The best weights so far were kept.',
  diverged: () => 'Ended: the loss was no longer a number. The best weights before that were kept.',
};

/** Words of the training screen. */
export const trainingEn = ({ bytes, bytesPair, compact, count, decimal, loss, percent, date }: Formats) => ({
  losses,
  lossHelp,
  parts,
  optimizers,
  schedules,
  ended,

  offer: {
    title: 'Train it on your own data',
    why: 'Fine-tune it, or win back what pruning and fewer bits took, in batches that fit your memory.',
    button: 'Train…',
  },
  title: (name: string): string => `Train ${name}`,
  back: 'Back to the plan',
  intro: 'Snug trains a copy. Your original is only read, never written.',

  files: {
    title: 'Data',
    roles: { data: 'Samples', labels: 'Labels', teacher: 'Teacher' },
    help: {
      data: '.npy, .npz, text or images; the first axis counts samples',
      labels: '.npy with one answer for each sample',
      teacher: 'An .onnx model with the same inputs and output',
    },
    none: 'Drop it here, or',
    choose: 'choose a file',
    replace: 'Replace',
    chooseFor: (role: string): string => `Choose a file: ${role}`,
    replaceFor: (role: string): string => `Replace: ${role}`,
    reading: 'Reading…',
    samples: (name: string, n: number): string => `${name}, ${items(n, 'sample', 'samples')}`,
    labels: (name: string, rows: number, shape: number[]): string =>
      shape.length === 0
        ? `${name}, ${items(rows, 'label', 'labels')}`
        : `${name}, ${items(rows, 'row', 'rows')} of ${shape.map(count).join(' × ')}`,
    nextToken: 'Not needed: the next token is the answer.',
  },

  what: {
    title: 'What to learn',
    loss: 'It should learn',
    trainable: 'What changes',
    rank: 'Rank of the adapters',
    epochs: 'Epochs',
    epochsHelp: 'times through the samples',
    batch: 'Samples in one update',
    more: 'More settings',
    optimizer: 'Optimizer',
    rate: 'Learning rate',
    rateHelp: 'highest, at the start',
    schedule: 'Over time it',
    validation: 'Held out to judge by',
    patience: 'Stop early after',
    patienceNever: 'never',
    patienceEpochs: (n: number): string => `${items(n, 'epoch', 'epochs')} without getting better`,
  },

  memory: {
    title: 'Memory',
    row: 'Training',
    fits: (need: number, budget: number): string => {
      const [n, b] = bytesPair(need, budget);
      return `Fits: training needs about ${n} of the ${b} you can use.`;
    },
    doesNotFit: (need: number, budget: number): string => {
      const [n, b] = bytesPair(need, budget);
      return `Does not fit: even one sample at a time needs ${n}, ${b} can be used.`;
    },
    wayOut: 'Raise the budget, or train less of the model: biases and norms only, or adapters.',
    raise: (size: number): string => `Use ${bytes(size)}`,
    less: 'Train biases and norms only',
    micro: (batch: number, micro: number): string =>
      micro >= batch
        ? `All ${count(batch)} samples of an update run at once.`
        : `Each update adds up ${items(Math.ceil(batch / micro), 'run', 'runs')} of ${items(micro, 'sample', 'samples')}, so that ${count(batch)} samples fit the budget.`,
    what: (parameters: number, weights: number): string =>
      `${compact(parameters)} numbers in ${items(weights, 'weight', 'weights')} change.`,
    steps: (steps: number, training: number, held: number): string =>
      `${items(steps, 'update', 'updates')}: ${items(training, 'sample', 'samples')} to learn from, ${count(held)} held out.`,
    noHeldOut: (steps: number, training: number): string =>
      `${items(steps, 'update', 'updates')} on ${items(training, 'sample', 'samples')}. None is held out: how well it does on new ones is not known.`,
    waiting: 'Add samples to see what training will need.',
    working: 'Working it out…',
    missing: {
      data: 'Add samples to start.',
      labels: 'Add labels to start.',
      teacher: 'Add a teacher to start.',
      either: 'Add targets or a teacher to start.',
    },
  },
  start: 'Start training',

  interrupted: {
    title: (name: string): string => `${name} was not trained to its end`,
    facts: (step: number, total: number, when: string): string =>
      `It had come to update ${count(step)} of ${count(total)}, ${when}.`,
    best: (best: string): string => `Best so far: ${best}.`,
    files: (names: string[]): string => `It goes on with ${names.join(' and ')} and the settings it began with.`,
    resume: 'Go on',
    discard: 'Forget it',
    date,
  },

  running: {
    title: (name: string): string => `Training ${name}`,
    preparing: 'Judging the model as it is',
    other: 'A training was running already. This is it.',
    epoch: (epoch: number, epochs: number): string => `Epoch ${count(epoch)} of ${count(epochs)}`,
    step: (step: number, total: number): string => `update ${count(step)} of ${count(total)}`,
    best: 'Best so far',
    stop: 'Stop and keep the best',
    stopping: 'Writing the best weights…',
    quality: (value: number, accuracy: number | null): string =>
      accuracy === null ? `loss ${loss(value)}` : `loss ${loss(value)}, ${percent(accuracy, 1)} right`,
  },

  chart: {
    title: 'Loss',
    trainingLine: 'Training',
    /** What the points are about: samples held out, or all when none are. */
    heldOut: { line: 'Held out', column: 'Held-out loss', inSentence: 'held out' },
    all: { line: 'All samples', column: 'Loss of all samples', inSentence: 'all samples' },
    bestMark: 'Best',
    axis: 'Updates',
    label: (training: number | null, judged: number | null, step: number, by: string): string =>
      step === 0
        ? 'Loss over the updates; none has been made yet.'
        : `Loss over ${items(step, 'update', 'updates')}: ${training === null ? '' : `training ${loss(training)}`}${
            judged === null ? '' : `, ${by} ${loss(judged)}`
          } at the end.`,
    columns: { step: 'Update', training: 'Training loss', accuracy: 'Right' },
    empty: 'The first points come with the first updates.',
  },

  result: {
    better: (share: number): string => `Better: the loss is ${percent(share)} lower.`,
    notBetter: 'Nothing got better: the file holds the weights it began with. Try a lower learning rate.',
    where: 'The trained model is',
    column: { measure: 'Measure', before: 'Before', after: 'After', note: 'Note' },
    loss: 'Loss',
    accuracy: 'Right answers',
    heldOut: (n: number): string => `on ${items(n, 'sample', 'samples')} held out`,
    onAll: 'on the samples it learned from',
    bestAt: (step: number, total: number): string => `best after update ${count(step)} of ${count(total)}`,
    points: (change: number): string =>
      Math.abs(change) < 0.0005 ? 'unchanged' : `${change > 0 ? '+' : '−'}${decimal(Math.abs(change) * 100, 1)} points`,
    memory: 'Most the process held',
    predicted: (size: number): string =>
      `${bytes(size)} of it predicted for the training itself; the rest is working room, as of any process`,
    use: 'Plan with this model',
    again: 'Train again',
    report: 'Save as JSON',
  },
});
