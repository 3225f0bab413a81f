import type { Formats } from './format.js';

/** Words of the Adjust drawer and its charts. Every chart label is one sentence with its numbers. */
export const adjustEn = ({ bytes, bytesExact, count, percent }: Formats) => ({
  title: 'Adjust',
  tabs: { memory: 'Memory', prune: 'Prune', numbers: 'Numbers', batch: 'Batch', tradeoff: 'Trade-off' },
  pin: 'Set by you',
  unpin: 'Back to Snug’s choice',
  unpinOne: (what: string): string => `Let Snug choose ${what}`,
  unpinAll: 'Back to Snug’s choice',
  snugChose: 'Snug’s choice',
  more: (what: string): string => `${what}: more`,
  less: (what: string): string => `${what}: less`,
  nodeAxis: 'Layers in the order they run',
  memoryAxis: 'Memory',
  budgetLine: 'Budget',
  noData: 'Nothing to draw for this model.',

  memory: {
    intro: 'What must be in memory at the same time, and when.',
    provider: 'Runs on',
    dims: 'Sizes of inputs',
    dim: (name: string): string => `Size of “${name}”`,
    chart: 'Live bytes over one run',
    chartLabel: (peak: number, node: string, nodes: number): string =>
      `Memory over ${count(nodes)} steps of one run; the highest point is ${bytes(peak)} at ${node}.`,
    columns: { node: 'Step', operator: 'Operator', live: 'Live' },
    top: 'Largest tensors',
    topColumns: { name: 'Name', kind: 'Kind', size: 'Size' },
    kinds: { weight: 'weight', activation: 'activation', cache: 'cache' },
  },

  prune: {
    intro:
      'Removes whole neurons and channels. The file and the memory shrink for real; zeros alone would save nothing.',
    ratio: 'Pruned',
    method: 'Which ones go',
    methodHelp: {
      random: 'Any of them, as a baseline.',
      magnitude: 'Those with the smallest weights first.',
      activation: 'Those that matter least to the next layer first; their mean is kept. Needs samples.',
      repair: 'The next layer is refitted on your samples to make up for what is gone. Needs samples.',
    },
    needsSamples: 'needs samples',
    memoryChart: 'Peak memory against pruning',
    memoryLabel: (from: number, to: number, ratio: number): string =>
      `Peak memory against the share pruned: ${bytes(from)} with nothing pruned, ${bytes(to)} at ${percent(ratio)}.`,
    damageChart: 'Expected damage against pruning',
    damageLabel: (points: { ratio: number; band: string }[]): string =>
      `Expected damage against the share pruned: ${points.map((p) => `${p.band} at ${percent(p.ratio)}`).join(', ')}.`,
    ratioAxis: 'Share pruned',
    columns: { ratio: 'Pruned', memory: 'Peak memory', file: 'File', damage: 'Expected damage' },
    widths: 'Width per group',
    widthsColumns: { group: 'Group', before: 'Before', after: 'After' },
    widthOf: (name: string): string => `Width of ${name}`,
    noWidths: 'Nothing is pruned in this plan.',
  },

  numbers: {
    intro: 'Fewer bits per weight. What really stays small depends on what runs it.',
    choose: 'Number format',
    auto: 'Snug’s choice',
    columns: { format: 'Format', memory: 'Memory', file: 'File', damage: 'Damage' },
    notHere: 'Not possible here',
    map: 'The weights, by format and size',
    mapHelp: 'Width: bytes before. Filled height: bytes left.',
    mapLabel: (before: number, after: number, formats: { name: string; share: number }[]): string =>
      `${bytes(before)} of weights become ${bytes(after)}: ${formats.map((f) => `${percent(f.share)} in ${f.name}`).join(', ')}.`,
    layer: (name: string, format: string, before: number, after: number): string =>
      `${name}: ${format}, ${bytesExact(before)} → ${bytesExact(after)}`,
    layerColumns: { weight: 'Weight', shape: 'Shape', format: 'Format', before: 'Before', after: 'After' },
    perLayer: 'Format of each weight',
    formatOf: (name: string): string => `Format of ${name}`,
    showAll: (n: number): string => `Show all ${count(n)}`,
  },

  batch: {
    intro: 'How many inputs run at once. Activations grow with it, weights do not.',
    size: 'Batch',
    none: 'This model has no batch dimension: it runs one input at a time.',
    chart: 'Peak memory against batch',
    chartLabel: (largest: number | null, budget: number): string =>
      largest === null
        ? `No batch fits ${bytes(budget)}.`
        : `Peak memory against batch size: up to batch ${count(largest)} fits ${bytes(budget)}.`,
    axis: 'Batch',
    columns: { batch: 'Batch', memory: 'Peak memory', fits: 'Fits' },
    fits: 'fits',
    over: 'too large',
    largest: (batch: number): string => `Largest that fits: ${count(batch)}`,
  },

  tradeoff: {
    intro:
      'Every plan worth having: less memory to the left, better answers up. Choose one to set the budget to what it needs.',
    chart: 'Peak memory against quality',
    chartLabel: (n: number, chosen: string, size: number): string =>
      `${count(n)} plans by peak memory and quality; the chosen one is ${chosen} with ${bytes(size)}.`,
    chartLabelNone: (n: number): string => `${count(n)} plans by peak memory and quality; none is chosen.`,
    qualityAxis: 'Output to error, dB',
    columns: { plan: 'Plan', memory: 'Peak memory', damage: 'Expected damage', use: 'Use' },
    onlyOne: 'With these settings there is only one plan. Let Snug choose the format or the pruning to compare others.',
    chosen: 'chosen',
    use: (size: number): string => `Use ${bytes(size)}`,
    unchanged: 'unchanged',
  },
});
