import type { Estimate, MemoryParts } from '../../src/contract/types.js';

/** `training`: what training keeps beside a run (gradients, what the optimizer remembers). */
export const partNames = ['weights', 'activations', 'cache', 'workspace', 'runtime', 'training'] as const;
export type PartName = (typeof partNames)[number];

export interface Part {
  name: PartName;
  bytes: number;
}

/** Parts of the phase that sets the peak, in bar order, zero-sized ones left out. */
export function peakParts(estimate: Estimate): Part[] {
  const phases = [estimate.warm, estimate.cold, estimate.load];
  const peak = phases.reduce((best, phase) => (phase.peakBytes > best.peakBytes ? phase : best));
  return partsOf(peak.parts);
}

export function partsOf(parts: MemoryParts): Part[] {
  const bytes: Record<PartName, number> = {
    weights: parts.weightsBytes,
    activations: parts.activationsBytes,
    cache: parts.cacheBytes,
    workspace: parts.workspaceBytes,
    runtime: parts.runtimeBytes,
    training: 0,
  };
  return partNames.map((name) => ({ name, bytes: bytes[name] })).filter((part) => part.bytes > 0);
}

export interface BarScale {
  /** Bytes that the bar's width stands for. */
  spanBytes: number;
  /** Bytes before the model's first byte: what others use; 0 when the scale is cut. */
  startBytes: number;
  /** Bytes kept free at the far end; 0 when the scale is cut or the need runs over the device. */
  keptBytes: number;
  /** The scale shows the model, not the device: others and the rest stand outside as stubs. */
  cut: boolean;
}

/**
 * One scale for all rows of a bar. The device's own size is the scale as long as the model would be visible in
 * it; below 1/12 of the device the bar is cut down to the model, with what it leaves out said beside it.
 */
export function barScale(input: {
  totalBytes: number | null;
  othersBytes: number | null;
  keptBytes: number;
  needBytes: number;
  budgetBytes: number;
}): BarScale {
  const { totalBytes, needBytes, budgetBytes } = input;
  const others = input.othersBytes ?? 0;
  if (totalBytes === null || (needBytes > 0 && needBytes < totalBytes / 12)) {
    const reach = needBytes > 0 ? needBytes * 1.25 : budgetBytes;
    return { spanBytes: Math.max(reach, 1), startBytes: 0, keptBytes: 0, cut: totalBytes !== null };
  }
  const overflow = others + needBytes > totalBytes;
  return {
    spanBytes: overflow ? (others + needBytes) * 1.02 : totalBytes,
    startBytes: others,
    keptBytes: overflow ? 0 : input.keptBytes,
    cut: false,
  };
}

/** Where the budget mark stands, 0…1 of the bar, or null when it lies beyond a cut scale. */
export function budgetShare(scale: BarScale, budgetBytes: number): number | null {
  const share = (scale.startBytes + budgetBytes) / scale.spanBytes;
  return share > 1 ? null : share;
}

/** The bytes under a position of the bar, rounded to what a hand can mean (three significant digits). */
export function budgetAt(scale: BarScale, share: number): number {
  const bytes = Math.min(Math.max(share, 0), 1) * scale.spanBytes - scale.startBytes;
  return roundBytes(Math.max(bytes, 0));
}

export function roundBytes(bytes: number): number {
  if (bytes <= 0) return 0;
  const step = 10 ** Math.max(0, Math.floor(Math.log10(bytes)) - 2);
  return Math.round(bytes / step) * step;
}
