import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Arena, type Allocation } from '../../../src/memory/arena.js';
import { dmlBucket } from '../../../src/memory/device.js';
import { webgpuBucket } from '../../../src/memory/device-webgpu.js';
import { PatternPlanner } from '../../../src/memory/pattern.js';

const mib = 2 ** 20;

describe('Arena', () => {
  /** [in use, held] in MiB after each allocation, as onnxruntime 1.30 reported them. */
  test.each([
    [
      300,
      [
        [300, 512],
        [600, 1024],
        [900, 2048],
        [1200, 2048],
        [1624, 2048],
        [1924, 3072],
      ],
    ],
    [
      1300,
      [
        [1300, 2048],
        [2600, 4096],
      ],
    ],
  ])('grows like the runtime for %i MiB tensors', (size, states) => {
    const arena = new Arena();
    const seen = states.map(() => {
      arena.allocate(size * mib);
      return [arena.inUse / mib, arena.held / mib];
    });
    expect(seen).toEqual(states);
  });

  test('hands out a whole chunk unless it is twice the request', () => {
    const arena = new Arena();
    arena.allocate(600 * 1024);
    expect(arena.inUse).toBe(mib);
    arena.allocate(300);
    expect(arena.inUse).toBe(mib + 512);
  });

  test('an empty tensor takes nothing', () => {
    const arena = new Arena();
    arena.free(arena.allocate(0));
    expect([arena.inUse, arena.held]).toEqual([0, 0]);
  });

  test('random use never loses or invents a byte', () => {
    const step = fc.record({ bytes: fc.integer({ min: 1, max: 3 * mib }), freeAt: fc.nat(20) });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const arena = new Arena();
        const live: Allocation[] = [];
        for (const { bytes, freeAt } of steps) {
          const chunk = arena.allocate(bytes);
          expect(chunk?.bytes).toBeGreaterThanOrEqual(bytes);
          live.push(chunk);
          if (freeAt < live.length) arena.free(live.splice(freeAt, 1)[0] ?? null);
          const spans = live.flatMap((c) => (c ? [[c.address, c.address + c.bytes] as const] : []));
          spans.sort(([a], [b]) => a - b);
          for (let i = 1; i < spans.length; i += 1) expect(spans[i]![0]).toBeGreaterThanOrEqual(spans[i - 1]![1]);
          expect(arena.inUse).toBe(live.reduce((sum, c) => sum + (c?.bytes ?? 0), 0));
          expect(arena.held).toBeGreaterThanOrEqual(arena.inUse);
        }
        for (const chunk of live) arena.free(chunk);
        expect(arena.inUse).toBe(0);
        expect(arena.peak).toBeLessThanOrEqual(arena.held);
      }),
    );
  });
});

describe('PatternPlanner', () => {
  test('puts a buffer into the gap that fits best', () => {
    const planner = new PatternPlanner();
    const [a, b, c, d] = [1024, 512, 512, 256].map((bytes) => planner.allocate(bytes));
    planner.free(a!);
    planner.free(c!);
    expect(planner.allocate(500)).toBe(c);
    expect(planner.allocate(1000)).toBe(a);
    expect([b, d, planner.peak]).toEqual([1024, 2048, 2304]);
  });

  test('live blocks never overlap and stay below the peak', () => {
    const step = fc.record({ bytes: fc.integer({ min: 1, max: 5000 }), freeAt: fc.nat(10) });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
        const planner = new PatternPlanner();
        const live: { offset: number; bytes: number }[] = [];
        for (const { bytes, freeAt } of steps) {
          live.push({ offset: planner.allocate(bytes), bytes });
          if (freeAt < live.length) planner.free(live.splice(freeAt, 1)[0]!.offset);
          const sorted = [...live].sort((x, y) => x.offset - y.offset);
          sorted.forEach(({ offset, bytes: size }, i) => {
            expect(offset + size).toBeLessThanOrEqual(sorted[i + 1]?.offset ?? planner.peak);
          });
        }
      }),
    );
  });
});

test('device pools round sizes the way their providers do', () => {
  expect([0, 1, 65, 66.4e6, 170e6].map(webgpuBucket)).toEqual([0, 64, 128, 67108864, 170000000]);
  expect([0, 1, 65537, 3 * mib].map(dmlBucket)).toEqual([0, 65536, 131072, 4 * mib]);
});
