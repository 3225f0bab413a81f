import type { BatchKnee } from '../../src/contract/throughput.js';
import type { Formats } from './format.js';

/** Words of the Adjust drawer and its charts. Every chart label is one sentence with its numbers. */
export const adjustEn = ({ bytes, bytesExact, count, percent, rate }: Formats) => ({
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
  peakAxis: 'Peak memory',
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
      repair:
        'The next layer is refitted to make up for what is gone: on your samples, or on made-up inputs where there are none.',
    },
    atRatio: (ratio: number): string => `With ${percent(ratio)} pruned`,
    peak: 'Peak memory',
    file: 'File',
    damage: 'Damage',
    saves: (size: number): string => `${bytes(size)} saved by pruning`,
    savesNothing: 'nothing saved by pruning',
    measured: 'measured',
    expected: 'expected',
    agreement: (share: number): string => `${percent(share)} of answers the same`,
    memoryChart: 'Peak memory against pruning',
    memoryLabel: (from: number, to: number, ratio: number): string =>
      `Peak memory against the share pruned: ${bytes(from)} with nothing pruned, ${bytes(to)} at ${percent(ratio)}.`,
    damageChart: 'Damage against pruning',
    damageLabel: (measured: boolean, points: { ratio: number; error: number }[]): string =>
      `${measured ? 'Measured' : 'Expected'} error of the answers against the share pruned: ${points.map((p) => `${percent(p.error)} at ${percent(p.ratio)}`).join(', ')}.`,
    measuredLine: 'Measured on your samples',
    expectedLine: 'Expected from the weights',
    tooFar: 'Damage grows fast here',
    errorAxis: 'Error of the answers',
    ratioAxis: 'Share pruned',
    columns: {
      ratio: 'Pruned',
      memory: 'Peak memory',
      saved: 'Saved by pruning',
      file: 'File',
      measured: 'Measured damage',
      expected: 'Expected damage',
    },
    notMeasured: 'not measured',
    furthest: (ratio: number, measured: boolean): string =>
      `This far and no further: ${percent(ratio)}. Beyond it ${measured ? 'the measured' : 'the expected'} damage is more than small.`,
    furthestNone: (measured: boolean): string =>
      measured
        ? 'At no ratio was the measured damage more than small.'
        : 'At no ratio is the expected damage more than small.',
    past: (furthest: number): string =>
      `Past ${percent(furthest)} damage grows fast. Prune less, or look at the answers before you rely on them.`,
    basis: {
      noSamples: 'Expected from the weights alone. Attach samples, and Snug measures it.',
      otherMethod: 'Expected from the weights alone: only pruning with repair is measured.',
      measuring: (done: number, total: number): string =>
        total === 0
          ? 'Measuring on your samples …'
          : `Measuring on your samples: ${count(done)} of ${count(total)} ratios.`,
      done: (samples: number, fitted: boolean): string =>
        fitted
          ? `Measured on the same ${count(samples)} samples the repair was fitted to, too few to keep some out: other inputs may lose more. Every group was cut by the same share.`
          : `Measured on ${count(samples)} samples that the repair did not see, with every group cut by the same share.`,
      stopped: (done: number, total: number): string =>
        done === 0
          ? 'Nothing was measured: stopped.'
          : `Measured at ${count(done)} of ${count(total)} ratios, then stopped.`,
      failed: 'Measuring did not work with this model and these samples: what is shown is expected from the weights.',
      nothing: 'No group is wide enough for a ratio to cut.',
    },
    stop: 'Stop measuring',
    again: 'Measure',
    widths: 'Width per group',
    widthsHelp: 'Layers joined by one width shrink together. Drag a bar, or use the arrow keys, to set it yourself.',
    widthOf: (unit: string, name: string): string => `${unit} of ${name}`,
    widthText: (after: number, before: number): string => `${count(after)} of ${count(before)}`,
    width: (before: number, after: number): string =>
      before === after ? count(before) : `${count(before)} → ${count(after)}`,
    readBy: 'read by',
    andMore: (n: number): string => `and ${count(n)} more`,
    others: (n: number): string => `${count(n)} ${n === 1 ? 'bias or norm shrinks' : 'biases and norms shrink'} along`,
    onlyWhenSet: (n: number): string => `${count(n)} more that only shrink when you set them`,
    showAll: (n: number): string => `Show all ${count(n)} groups`,
    units: {
      channels: 'Channels',
      features: 'Hidden width',
      heads: 'Attention heads',
      'kv-groups': 'Key/value head groups',
      'query-heads': 'Query heads per group',
      'query-key-width': 'Query/key width',
      'value-width': 'Value width',
      'head-width': 'Head width',
      groups: 'Channel groups',
      recurrent: 'Hidden units',
      stream: 'Stream width',
    },
    noWidths: 'Nothing in this model can be pruned without changing its inputs or outputs.',
  },

  numbers: {
    intro: 'Fewer bits per weight. What really stays small depends on what runs it.',
    choose: 'Number format',
    auto: 'Snug’s choice',
    columns: { format: 'Format', memory: 'Peak memory', file: 'File', damage: 'Damage', speed: 'Speed' },
    atPlan: (batch: number | null, ratio: number): string =>
      `Each for all weights${batch === null ? '' : `, at batch ${count(batch)}`}${ratio > 0 ? `, with ${percent(ratio)} pruned` : ''}, as in the plan. Damage: output to error in dB, higher is better; below 20\u00a0dB it shows.`,
    speeds: { faster: 'faster', same: 'same', slower: 'slower' },
    speedUnknown: 'not known',
    speedHelp: (known: boolean, provider: string): string =>
      known
        ? 'Speed: a guide from large matrix products against 32-bit at a batch like this one. The check after shrinking measures your model.'
        : `Speed: not known for the layers of this model on ${provider}. The check after shrinking measures it.`,
    mix: {
      title: 'Mixes of formats',
      intro: (measured: boolean): string =>
        `Each weight gets the format that suits it: smaller to the left, better answers up, the weights weighed ${
          measured ? 'by what their changes do to the answers' : 'by their values'
        }. Choose a point.`,
      axis: 'File',
      tooLarge: (budget: number): string => `× needs more than the budget of ${bytes(budget)}.`,
      label: (n: number, from: number, to: number, chosen: { size: number; shares: string } | null): string =>
        `${count(n)} mixes of formats from ${bytes(from)} to ${bytes(to)}; ${
          chosen === null ? 'none is chosen' : `the chosen one has ${bytes(chosen.size)}: ${chosen.shares}`
        }.`,
      chosen: (size: number, shares: string): string => `Chosen: ${bytes(size)}, ${shares}.`,
      columns: { file: 'File', memory: 'Peak memory', damage: 'Expected damage', formats: 'Formats', use: 'Use' },
    },
    damageMap: 'Error each weight adds',
    noise: (share: number): string => `adds ${share < 0.0001 ? '<' : ''}${percent(Math.max(share, 0.0001), 2)} error`,
    notHere: 'Not possible here',
    map: 'The weights, by format and size',
    mapHelp: 'Width: bytes before. Filled height: bytes left. Point at a weight for its figures.',
    mapLabel: (before: number, after: number, formats: { name: string; share: number }[]): string =>
      `${bytes(before)} of weights become ${bytes(after)}: ${formats.map((f) => `${percent(f.share)} in ${f.name}`).join(', ')}.`,
    layer: (name: string, format: string, before: number, after: number): string =>
      `${name}: ${format}, ${bytesExact(before)} → ${bytesExact(after)}`,
    layerColumns: {
      weight: 'Weight',
      shape: 'Shape',
      format: 'Format',
      before: 'Before',
      after: 'After',
      noise: 'Error it adds',
    },
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
    columns: {
      batch: 'Batch',
      memory: 'Peak memory',
      fits: 'Fits',
      speed: 'Samples per second',
      latency: 'Time per run',
      measured: 'Measured peak',
      estimated: 'Estimated peak',
      use: 'Use',
    },
    fits: 'fits',
    over: 'too large',
    largest: (batch: number): string => `Largest that fits: ${count(batch)}`,
    speedChart: 'Samples per second against batch',
    speedLabel: (knee: BatchKnee | null, last: number): string =>
      knee === null
        ? `Measured samples per second up to batch ${count(last)}; none of them fits the budget.`
        : `Measured samples per second up to batch ${count(last)}; the knee is at batch ${count(knee.batch)} with ${rate(knee.samplesPerSecond)}.`,
    perSecond: (value: number): string => `${rate(value)} samples per second`,
    knee: 'knee',
    kneeIs: (knee: BatchKnee): string =>
      knee.batch === knee.fastest
        ? `The knee is batch ${count(knee.batch)}: no larger batch that fits is faster.`
        : `The knee is batch ${count(knee.batch)}: ${percent(knee.share)} of the speed of batch ${count(knee.fastest)}, the fastest that fits.`,
    notMeasured: (provider: string): string =>
      `How fast each size is can only be measured: a few short runs of the model as it is, on ${provider}.`,
    measuring: (done: number, total: number): string =>
      total === 0 ? 'Measuring …' : `Measuring: ${count(done)} of ${count(total)} sizes at most.`,
    how: (provider: string): string =>
      `Measured on ${provider} with the model as it is; smaller number formats can change the speed, hardly the knee. The knee is the smallest batch with at least 90% of the best speed that fits the budget.`,
    failed: 'Measuring did not work with this model here.',
    stopped: 'Stopped before anything was measured.',
    noneFits: 'The model as it is does not fit the memory that is free now at any batch size, so it was not run.',
    measure: 'Measure the speed',
    stop: 'Stop measuring',
    use: (batch: number): string => `Use ${count(batch)}`,
    chosen: 'chosen',
  },

  tradeoff: {
    intro:
      'Every plan worth having: less memory to the left, better answers up. Choose one to set the budget to what it needs.',
    chart: 'Peak memory against quality',
    chartLabel: (n: number, chosen: string, size: number): string =>
      `${count(n)} plans by peak memory and quality; the chosen one is ${chosen} with ${bytes(size)}.`,
    chartLabelNone: (n: number): string => `${count(n)} plans by peak memory and quality; none is chosen.`,
    qualityAxis: 'Output to error, dB',
    key: (budget: number): string =>
      `Dashed: the budget, ${bytes(budget)}; plans right of it do not fit. Filled: the chosen plan.`,
    columns: { plan: 'Plan', memory: 'Peak memory', damage: 'Expected damage', use: 'Use' },
    onlyOne: 'With these settings there is only one plan. Let Snug choose the format or the pruning to compare others.',
    chosen: 'chosen',
    use: (size: number): string => `Use ${bytes(size)}`,
    unchanged: 'unchanged',
  },
});
