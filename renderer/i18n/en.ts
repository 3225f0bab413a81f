import type { Dtype, DamageBand, JobPhase, Provider, PruneMethod, Verdict } from '../../src/contract/types.js';
import type { PartName } from '../view/bar.js';
import { accuracyEn } from './accuracy.en.js';
import { adjustEn } from './adjust.en.js';
import { damageEn } from './damage.en.js';
import { errorsEn } from './errors.en.js';
import { createFormats } from './format.js';
import { outcomeEn } from './outcome.en.js';
import { planEn } from './plan.en.js';
import { trainingEn } from './training.en.js';

const format = createFormats('en');
const { bytes, count, percent } = format;

const dtype: Record<Dtype, string> = {
  fp32: '32-bit float',
  fp16: '16-bit float',
  int8: '8-bit weights',
  'int8-dynamic': '8-bit dynamic',
  'int8-static': '8-bit calibrated',
  int4: '4-bit weights',
  nf4: '4-bit table (NF4)',
  int2: '2-bit weights',
};
const damage: Record<DamageBand, string> = {
  none: 'none',
  negligible: 'negligible',
  small: 'small',
  moderate: 'moderate',
  large: 'large',
  severe: 'severe',
  unknown: 'not known yet',
};
const provider: Record<Provider, string> = {
  cpu: 'CPU',
  cuda: 'CUDA',
  dml: 'DirectML',
  webgpu: 'WebGPU',
  coreml: 'Core ML',
};
const part: Record<PartName, string> = {
  weights: 'Weights',
  activations: 'Activations',
  cache: 'Cache',
  workspace: 'Workspace',
  runtime: 'Runtime',
  training: 'Training',
};
const partHelp: Record<PartName, string> = {
  weights: 'the trained numbers of the model',
  activations: 'values that live between layers while it runs',
  cache: 'keys and values a decoder remembers',
  workspace: 'scratch space single layers ask for',
  runtime: 'what ONNX Runtime itself takes',
  training: 'gradients added up, and what the optimizer remembers of each number',
};
const verdict: Record<Verdict, string> = {
  fits: 'Fits',
  tight: 'Tight',
  'does-not-fit': 'Does not fit',
  'cannot-tell': 'Can’t tell',
};
const phase: Record<JobPhase, string> = {
  reading: 'Reading the model',
  planning: 'Choosing the plan',
  pruning: 'Pruning',
  recovering: 'Training what is left',
  quantizing: 'Shrinking weights',
  writing: 'Writing the file',
  checking: 'Checking that it runs',
  comparing: 'Comparing answers',
};
const step: Record<JobPhase, string> = {
  reading: 'Read',
  planning: 'Plan',
  pruning: 'Prune',
  recovering: 'Recover',
  quantizing: 'Shrink',
  writing: 'Write',
  checking: 'Check',
  comparing: 'Compare',
};
const method: Record<PruneMethod, string> = {
  random: 'Random',
  magnitude: 'Smallest first',
  activation: 'Least active first',
  repair: 'With repair',
};

export const en = {
  format,
  dtype,
  damage,
  provider,
  part,
  partHelp,
  verdict,
  phase,
  step,
  method,
  accuracy: accuracyEn(format),
  adjust: adjustEn(format),
  training: trainingEn(format),
  /** What the engine says in words: whole sentences, and parts that stand inside another sentence. */
  engine: {
    sentence: (text: string): string => sized(`${text.charAt(0).toUpperCase()}${text.slice(1)}`),
    clause: (text: string): string => sized(text.replace(/\.$/u, '')),
  },
  error: errorsEn(format),

  app: {
    name: 'Snug',
    language: 'Language',
    theme: 'Appearance',
    themes: { auto: 'Like the system', light: 'Light', dark: 'Dark' },
    back: 'Another model',
    close: 'Close',
    dismiss: 'Dismiss',
    table: 'Show as a table',
    privacy: 'Your models never leave this computer.',
    version: (version: string, runtime: string): string => `Snug ${version} · ONNX Runtime ${runtime}`,
    listJoin: (list: string[]): string => list.join(', '),
    stop: '.',
    clauses: (list: string[]): string => list.join(', '),
  },

  drop: {
    title: 'Drop a model here',
    hint: 'An .onnx file, a folder, or a model with its data files',
    choose: 'Choose a file',
    chooseFolder: 'Choose a folder',
    release: 'Let go to open it',
    opening: (name: string): string => `Opening ${name}…`,
    oneAtATime: 'Those are several models. Drop one at a time.',
    samples: 'Or try a sample',
    withData: 'with samples',
    sample: (name: string, size: number): string => `${name}, ${bytes(size)}`,
    recent: 'Recent',
    recentMissing: 'file is gone',
    recentNone: 'Models you open will be listed here.',
  },

  hardware: {
    title: 'Memory to plan for',
    reading: 'Reading the GPU…',
    device: 'Device',
    reread: 'Read again',
    thisComputer: 'Plan for',
    here: 'This computer',
    other: 'Other',
    otherTitle: 'Plan for another GPU',
    otherSize: 'Memory of the other GPU',
    gigabytes: (n: number): string => `${count(n)} GB`,
    ramName: 'This computer’s memory',
    manualName: (total: number): string => `A GPU with ${bytes(total)}`,
    totalFree: (total: number, free: number): string => `${bytes(total)}, ${bytes(free)} free now`,
    totalOnly: (total: number): string => `${bytes(total)}`,
    unknownSize: 'Memory size not known',
    shared: 'shared with the system',
    note: (note: string): string => note,
    source: (source: string, confidence: string): string =>
      confidence === 'guessed' ? `Guessed from ${source}. Enter the size if you know it.` : `Read from ${source}`,
    entered: 'Entered by you',
    ramSource: 'Read from the operating system',
    none: 'No GPU memory found. Snug plans for this computer’s memory instead; pick another size if you plan for a GPU elsewhere.',
    failed: 'The GPU could not be read. Enter its memory below.',
  },

  bar: {
    others: 'Others use',
    kept: 'Kept free',
    free: 'Free',
    budget: 'Budget',
    budgetMark: (value: number): string => `Budget: ${bytes(value)}`,
    budgetField: 'Budget',
    unit: 'Unit',
    budgetFrom: (value: number): string => `Snug’s choice: ${bytes(value)}, all that is free but a reserve`,
    beyond: (value: number): string => `Budget ${bytes(value)}`,
    cut: (total: number): string => `Drawn at the model’s own size; the whole device has ${bytes(total)}.`,
    now: 'As it is',
    snug: 'With Snug',
    smallest: 'Smallest',
    before: 'Before',
    predicted: 'Predicted',
    measured: 'Measured',
    measuredPart: 'Measured peak',
    device: 'Now',
    over: 'Over the budget',
    share: (name: string, size: number, share: number): string => `${name}: ${bytes(size)}, ${percent(share)}`,
    largest: (list: { name: string; size: number }[]): string =>
      `largest: ${list.map((each) => `${each.name} (${bytes(each.size)})`).join(', ')}`,
    label: (rows: { name: string; size: number }[], budget: number | null): string =>
      `Memory. ${rows.map((row) => `${row.name}: ${bytes(row.size)}`).join('. ')}.${
        budget === null ? '' : ` Budget: ${bytes(budget)}.`
      }`,
    deviceLabel: (total: number, others: number | null, kept: number): string =>
      `Memory of ${bytes(total)}: ${others === null ? '' : `others use ${bytes(others)}, `}${bytes(
        total - (others ?? 0) - kept,
      )} can be used, ${bytes(kept)} is kept free.`,
    more: 'More budget',
    less: 'Less budget',
  },

  ...planEn(format),

  reason: {
    alreadyFits: 'It already fits, so the least damaging plan is to change nothing.',
    chosen: 'Of all plans that fit, this one is expected to change the answers least.',
    pinned: (what: string): string => `Set by you: ${what}.`,
    noSamples: 'No samples given: nothing that needs calibration was considered.',
    stayedLarge: (weight: string, why: string): string => `“${weight}” stays as it is: ${why}.`,
    assumed: (name: string, value: number): string =>
      `“${name}” was taken as ${count(value)}; set it under Adjust, Memory.`,
    fellBack: (node: string, operator: string, where: string): string =>
      `${node} (${operator}) ran on ${where}, not on the GPU.`,
    candidateFailed: (id: string, why: string): string => `A plan was dropped (${id}): ${why}`,
    blocked: (what: string, name: string, size: number): string => `Held up by ${what} of ${name}: ${bytes(size)}.`,
    lessFree: (free: number, needed: number): string =>
      `Only ${bytes(free)} were free on the device when the result was run; it needs ${bytes(needed)}.`,
    mixed: (shares: string, measured: boolean, kept: string[]): string =>
      `The weights were weighed against each other ${measured ? 'by what their changes do to the answers' : 'by their values'}: ${shares}.${
        kept.length > 0 ? ` The answers hang most on ${kept.map((name) => `“${name}”`).join(', ')}.` : ''
      }`,
    blockedWhat: { weights: 'the weights', activations: 'the activations', cache: 'the cache' },
  },

  ...outcomeEn(format),
  ...damageEn(format),
};

/** Sizes as the rest of the page writes them. */
function sized(text: string): string {
  return text.replace(/(\d{4,}) bytes/gu, (_, size) => bytes(Number(size)));
}
