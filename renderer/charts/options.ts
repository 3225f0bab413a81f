import type { LineConfiguration } from './chart.svelte.js';
import type { Palette } from './palette.js';

type Options = NonNullable<LineConfiguration['options']>;

export interface AxisWords {
  title: string;
  tick: (value: number) => string;
}

/** Options that all charts share: thin lines, few ticks, the page's own type. */
export function chartOptions(
  palette: Palette,
  words: { x: AxisWords; y: AxisWords; tooltip: (x: number, y: number, set: number) => string },
  extra: { x?: object; y?: object; onClick?: Options['onClick']; onHover?: Options['onHover'] } = {},
): Options {
  const axis = (axisWords: AxisWords) => ({
    border: { display: false },
    grid: { color: palette.line, lineWidth: 1, drawTicks: false },
    ticks: {
      color: palette.ink2,
      font: { family: palette.font, size: 11 },
      maxTicksLimit: 6,
      includeBounds: false,
      padding: 6,
      maxRotation: 0,
      callback: (value: number | string) => axisWords.tick(Number(value)),
    },
    title: {
      display: axisWords.title !== '',
      text: axisWords.title,
      color: palette.ink2,
      font: { family: palette.font, size: 11 },
    },
  });
  return {
    responsive: true,
    clip: 8,
    layout: { padding: { top: 8, right: 4 } },
    maintainAspectRatio: false,
    interaction: { mode: 'nearest', axis: 'x', intersect: false },
    onClick: extra.onClick ?? (() => undefined),
    onHover: extra.onHover ?? (() => undefined),
    plugins: {
      tooltip: {
        backgroundColor: palette.ink,
        titleColor: palette.surface,
        bodyColor: palette.surface,
        bodyFont: { family: palette.font, size: 12 },
        displayColors: false,
        padding: 8,
        cornerRadius: 6,
        callbacks: {
          title: () => '',
          label: (item) => words.tooltip(item.parsed.x ?? 0, item.parsed.y ?? 0, item.datasetIndex),
        },
      },
    },
    scales: {
      x: { type: 'linear', ...axis(words.x), grid: { display: false }, ...extra.x },
      y: {
        type: 'linear',
        beginAtZero: true,
        ...axis(words.y),
        afterFit: (scale: { width: number }) => {
          scale.width = Math.max(scale.width, numbersWidth);
        },
        ...extra.y,
      },
    },
  };
}

/** The point of the first data set closest to a click, wherever it was made: a finger needs no aim. */
export function closestPoint(
  event: { x: number | null; y: number | null },
  chart: { getDatasetMeta(set: number): { data: readonly { x: number; y: number }[] } },
): number {
  const { data } = chart.getDatasetMeta(0);
  const distances = data.map((point) => Math.hypot(point.x - (event.x ?? 0), point.y - (event.y ?? 0)));
  return distances.indexOf(Math.min(...distances));
}

/** Of the numbers beside a chart, so that charts one above the other have their points one above the other. */
const numbersWidth = 52;

/** An axis of batch sizes: each doubling as wide as the one before, the sizes themselves as ticks. */
export function batchAxis(batches: readonly number[], title: string, text: (batch: number) => string) {
  // Sizes between the doublings would print over each other.
  const ticks = batches.filter((batch) => Number.isInteger(Math.log2(batch)));
  return {
    words: { title, tick: (value: number) => (ticks.includes(value) ? text(value) : '') },
    scale: {
      type: 'logarithmic',
      min: batches[0] ?? 1,
      max: batches.at(-1) ?? 1,
      afterBuildTicks: (axis: { ticks: { value: number }[] }) => {
        axis.ticks = ticks.map((value) => ({ value }));
      },
    },
  };
}

/** The budget as a dashed line over the whole width. */
export function budgetSet(palette: Palette, fromX: number, toX: number, budgetBytes: number, label: string) {
  return {
    type: 'line' as const,
    label,
    data: [
      { x: fromX, y: budgetBytes },
      { x: toX, y: budgetBytes },
    ],
    borderColor: palette.ink,
    borderWidth: 1.5,
    borderDash: [5, 4],
    pointRadius: 0,
    pointHitRadius: 0,
    fill: false as const,
  };
}

export function translucent(color: string, percent: number): string {
  return `color-mix(in srgb, ${color} ${percent}%, transparent)`;
}
