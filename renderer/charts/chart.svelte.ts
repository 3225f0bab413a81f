import {
  CategoryScale,
  Chart,
  Filler,
  LinearScale,
  LineController,
  LineElement,
  LogarithmicScale,
  PointElement,
  ScatterController,
  Tooltip,
  type ChartConfiguration,
} from 'chart.js';
import { untrack } from 'svelte';
import type { Attachment } from 'svelte/attachments';
import { appearance } from '../state/theme.svelte.js';
import { readPalette, type Palette } from './palette.js';

Chart.register(
  CategoryScale,
  Filler,
  LinearScale,
  LineController,
  LineElement,
  LogarithmicScale,
  PointElement,
  ScatterController,
  Tooltip,
);

export type LineConfiguration = ChartConfiguration<'line' | 'scatter', { x: number; y: number }[]>;

/**
 * Draws a chart on a canvas and keeps it in step with what `build` reads: data, locale, theme. Data sets keep
 * their identity over updates, so that a curve moves rather than being drawn anew.
 */
export function chart(build: (palette: Palette) => LineConfiguration): Attachment<HTMLCanvasElement> {
  return (canvas) => {
    let drawn: Chart<'line' | 'scatter', { x: number; y: number }[]> | null = null;
    $effect(() => {
      void appearance.revision;
      const calm = appearance.reducedMotion;
      const config = build(readPalette());
      untrack(() => {
        const options = { ...config.options, animation: calm ? (false as const) : { duration: 200 } };
        if (drawn === null) {
          drawn = new Chart(canvas, { ...config, options: { ...options, animation: false } });
          return;
        }
        const sets = drawn.data.datasets;
        config.data.datasets.forEach((set, index) => {
          const known = sets[index];
          if (known === undefined) sets.push(set);
          else Object.assign(known, set);
        });
        sets.length = config.data.datasets.length;
        drawn.options = options as typeof drawn.options;
        drawn.update(calm ? 'none' : undefined);
      });
    });
    return () => drawn?.destroy();
  };
}
