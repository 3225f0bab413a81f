import { describe, expect, it } from 'vitest';
import { reportHtml } from '../../../src/app/report-html.js';
import type { FitReport, MemorySample } from '../../../src/contract/types.js';

function report(trace: MemorySample[] | undefined): FitReport {
  const estimate = { peakBytes: 4e6 };
  return {
    model: { name: '<net>.onnx' },
    output: null,
    budgetBytes: 5e6,
    plan: { provider: 'cpu', batch: 1, weights: [] },
    fits: true,
    before: { measured: null, estimate, fileBytes: 1, parameters: 1 },
    predicted: estimate,
    measured: null,
    after: { fileBytes: 1, parameters: 1 },
    quality: null,
    speed: null,
    reasons: [],
    tried: [],
    seconds: 1,
    ...(trace ? { trace } : {}),
  } as unknown as FitReport;
}
const at = (atMs: number, usedBytes: number): MemorySample => ({
  atMs,
  usedBytes,
  deviceUsedBytes: null,
  deviceTotalBytes: null,
});

describe('the saved report', () => {
  const quality = {
    ...{ source: 'samples' as const, samples: 10, sqnrDb: 60, cosine: 0.999999, top1Agreement: 1, klNats: 0.00001 },
    damage: { band: 'negligible' as const, sqnrDb: 60 },
    outputs: [
      {
        ...{ value: 'y', sqnrDb: 60, cosine: 0.999999, top1Agreement: 1, klNats: 0.00001 },
        damage: { band: 'negligible' as const, sqnrDb: 60 },
      },
    ],
  };

  it('promises nothing where the result was judged on the samples it was fitted to', () => {
    const fitted = reportHtml({ ...report(undefined), quality: { ...quality, fitted: true } });
    expect(fitted).toContain('on the same 10 samples it was fitted to, too few to keep some out');
    expect(fitted).toContain('Try it on other inputs before you rely on it');
    expect(fitted).not.toContain('Use it as you used the original');
    expect(reportHtml({ ...report(undefined), quality: { ...quality, fitted: false } })).toContain(
      'Use it as you used the original',
    );
  });

  it('never rounds a difference away', () => {
    const html = reportHtml({ ...report(undefined), quality });
    expect(html).toContain('&gt;0.99999');
    expect(html).toContain('&lt;0.0001 nats');
    expect(html).not.toContain('1.00000');
  });

  it('draws what the job held, with its highest point in words', () => {
    const html = reportHtml(report([at(1000, 1e6), at(2000, 6e6), at(3500, 3e6)]));
    expect(html).toContain('6.00 MB at most, 2.5 s from the first sample to the last; 5.00 MB allowed.');
    const points = /polyline points="([^"]*)"/.exec(html)?.[1].split(' ') ?? [];
    expect(points).toHaveLength(3);
    // The highest sample stands highest, and time runs to the right.
    const [xs, ys] = [0, 1].map((axis) => points.map((point) => Number(point.split(',')[axis])));
    expect(Math.min(...(ys ?? []))).toBe(ys?.[1]);
    expect(xs).toEqual([0, 240, 600]);
    expect(html).toContain('stroke-dasharray');
    expect(html).not.toContain('<net>');
  });

  it('leaves the picture out where nothing was sampled', () => {
    expect(reportHtml(report(undefined))).not.toContain('<svg');
    expect(reportHtml(report([at(0, 1)]))).not.toContain('<svg');
  });
});
