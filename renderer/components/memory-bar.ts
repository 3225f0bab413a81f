import type { Part } from '../view/bar.js';

/** One row of the memory bar. */
export interface BarRow {
  key: string;
  name: string;
  /** Parts in bar order; null draws the total as one piece (a measurement has no parts). */
  parts: Part[] | null;
  totalBytes: number;
  /** `main` is the row the eye should land on. */
  weight: 'main' | 'side';
  /** Largest tensors, told on hover and focus. */
  largest: { name: string; bytes: number; kind: 'weight' | 'activation' | 'cache' }[];
}

export interface BarDevice {
  totalBytes: number | null;
  othersBytes: number | null;
  keptBytes: number;
}
