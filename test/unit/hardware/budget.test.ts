import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { SnugError } from '../../../src/contract/errors.js';
import { budgetFor, keptFreeBytes, manualReading, presetBytes } from '../../../src/hardware/budget.js';
import { gpuProviders } from '../../../src/hardware/providers.js';

const own = (totalBytes: number | null, freeBytes: number | null) => ({ totalBytes, freeBytes, shared: false });

describe('budgetFor', () => {
  it('leaves 5 % but at least 0.25 and at most 2 GB', () => {
    expect(keptFreeBytes(own(4e9, 4e9))).toBe(0.25e9);
    expect(keptFreeBytes(own(24e9, 1e9))).toBe(1.2e9);
    expect(keptFreeBytes(own(141e9, 1e9))).toBe(2e9);
    expect(keptFreeBytes({ ...own(32e9, 8e9), shared: true })).toBe(3.2e9);
    expect(budgetFor(own(8e9, 6e9))).toBe(5.6e9);
  });

  it('is 0 on a full card, null on an unknown one', () => {
    expect(budgetFor(own(8e9, 0))).toBe(0);
    expect(budgetFor(own(null, null))).toBeNull();
  });

  it('expects other programs when only the total is known', () => {
    expect(budgetFor(own(16e9, null))).toBe(16e9 - 1e9 - 0.8e9);
  });

  it('is never negative and never above what is free', () => {
    fc.assert(
      fc.property(fc.nat(), fc.nat(), fc.boolean(), (total, used, shared) => {
        const free = Math.max(0, total - used);
        const budget = budgetFor({ totalBytes: total, freeBytes: free, shared });
        expect(budget).toBeGreaterThanOrEqual(0);
        expect(budget).toBeLessThanOrEqual(free);
      }),
    );
  });
});

describe('manualReading', () => {
  it('plans for a GPU that is not here', () => {
    expect(manualReading(8e9, undefined, { platform: 'linux', now: () => 5 })).toEqual({
      id: 'manual',
      name: 'GPU entered by you',
      vendor: 'other',
      totalBytes: 8e9,
      freeBytes: 8e9,
      heldByOthersBytes: null,
      heldByUsBytes: null,
      address: null,
      shared: false,
      source: 'entered by you',
      confidence: 'reported',
      providers: ['cuda', 'webgpu'],
      readAt: 5,
      notes: ['All of it is taken to be free.'],
    });
    expect(manualReading(8e9, 0).freeBytes).toBe(0);
  });

  it.each([
    [0, undefined],
    [-1, undefined],
    [Number.NaN, undefined],
    [Number.POSITIVE_INFINITY, undefined],
    [1.5, undefined],
    [8e9, 9e9],
    [8e9, -1],
    [8e9, Number.NaN],
  ])('refuses %s with %s free', (total, free) => {
    expect(() => manualReading(total, free)).toThrow(SnugError);
    expect(() => manualReading(total, free)).toThrow(expect.objectContaining({ code: 'E_USAGE' }));
  });

  it('offers the usual sizes in GB', () => {
    expect(presetBytes).toEqual([4e9, 6e9, 8e9, 12e9, 16e9, 24e9]);
  });
});

describe('gpuProviders', () => {
  it.each([
    ['nvidia', 'linux', ['cuda', 'webgpu']],
    ['nvidia', 'win32', ['dml', 'webgpu']],
    ['amd', 'linux', ['webgpu']],
    ['amd', 'win32', ['dml', 'webgpu']],
    ['intel', 'linux', ['webgpu']],
    ['apple', 'darwin', ['coreml', 'webgpu']],
    ['none', 'linux', ['cpu']],
  ] as const)('%s on %s: %s', (vendor, platform, expected) => {
    expect(gpuProviders(vendor, platform)).toEqual(expected);
  });

  it('keeps only what is installed', () => {
    expect(gpuProviders('nvidia', 'linux', ['cpu', 'webgpu'])).toEqual(['webgpu']);
  });
});
