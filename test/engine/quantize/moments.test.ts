import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { readModel } from '../../../src/onnx/read.js';
import type { Model } from '../../../src/onnx/model.js';
import { MomentCollector, momentRows, type ActivationMoments } from '../../../src/quantize/moments.js';
import type { Runtime } from '../../../src/runtime/types.js';
import { buildModel, directRuntime, listDataset, node, weight } from './build.js';
import { gaussian } from './numbers.js';

const folder = mkdtempSync(path.join(tmpdir(), 'snug-moments-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const width = 64;
const blocks = 3;
const wide = (block: number) => ({ name: `h${block}`, columns: 2 * width, transposed: false });

/** Residual blocks with a wide layer inside. */
function residual(): Model {
  const nodes = [];
  const weights = [];
  for (let block = 0; block < blocks; block++) {
    const from = block === 0 ? 'x' : `r${block - 1}`;
    nodes.push(
      node('MatMul', [from, `up${block}`], `u${block}`),
      node('Relu', [`u${block}`], `h${block}`),
      node('MatMul', [`h${block}`, `down${block}`], `d${block}`),
      node('Add', [from, `d${block}`], `r${block}`),
    );
    const size = 2 * width * width;
    weights.push(
      weight(
        `up${block}`,
        [width, 2 * width],
        gaussian(size, 2 * block).map((value) => value / 8),
      ),
    );
    weights.push(
      weight(
        `down${block}`,
        [2 * width, width],
        gaussian(size, 2 * block + 1).map((value) => value / 16),
      ),
    );
  }
  return buildModel({ inputs: { x: ['batch', width] }, outputs: [`r${blocks - 1}`], nodes, weights });
}

const dataset = () =>
  listDataset(Array.from({ length: 7 }, (_, i) => ({ x: { dims: [5, width], data: gaussian(5 * width, 50 + i) } })));

/** The runtime, and what it was asked to open. */
function observed(): { runtime: Runtime; weights: string[][]; open: { now: number; most: number } } {
  const direct = directRuntime();
  const weights: string[][] = [];
  const open = { now: 0, most: 0 };
  const runtime: Runtime = {
    ...direct,
    open: async (spec) => {
      weights.push([...readModel(spec.modelPath).graph.initializers.keys()].sort());
      open.most = Math.max(open.most, ++open.now);
      const session = await direct.open(spec);
      const close = (): Promise<void> => {
        open.now--;
        return session.close();
      };
      return { ...session, close };
    },
  };
  return { runtime, weights, open };
}

const valuesOf = (moments: ActivationMoments): number[] => [...momentRows(moments)].flatMap((row) => [...row]);

describe('moments collected part by part', () => {
  it('are those of the whole model, one session at a time, each with the weights of its part alone', async () => {
    const taps = Array.from({ length: blocks }, (_, block) => wide(block));
    const whole = new MomentCollector(directRuntime(), residual(), dataset(), taps, { workDirectory: folder });
    const expected = await whole.collect(taps, []);
    whole.close();
    const { runtime, weights, open } = observed();
    const collector = new MomentCollector(runtime, residual(), dataset(), taps, { workDirectory: folder });
    for (const [block, tap] of taps.entries()) {
      const [found] = await collector.collect([tap], taps.slice(block + 1));
      const { rows, samples, mean } = expected[block]!;
      expect(found).toMatchObject({ rows, samples });
      found!.mean.forEach((value, i) => expect(value).toBeCloseTo(mean[i]!, 5));
      const exact = valuesOf(expected[block]!);
      valuesOf(found!).forEach((value, i) => expect(Math.abs(value - exact[i]!)).toBeLessThan(1e-4));
    }
    // The next wide value costs less to keep than the weights that make it.
    expect(weights).toEqual([['down0', 'up0', 'up1'], ['down1', 'up2'], []]);
    expect(open).toEqual({ now: 0, most: 1 });
    collector.close();
    // The moments alone, which are their asker's to remove.
    expect(readdirSync(folder)).toHaveLength(2 * blocks);
    for (const file of readdirSync(folder)) rmSync(path.join(folder, file));
  });

  it('leave nothing behind when a part fails', async () => {
    const taps = [wide(0), wide(1)];
    const { runtime } = observed();
    const failing: Runtime = {
      ...runtime,
      open: async (spec) => ({
        ...(await runtime.open(spec)),
        runProducts: () => Promise.reject(new Error('no room')),
      }),
    };
    const collector = new MomentCollector(failing, residual(), dataset(), taps, { workDirectory: folder });
    await expect(collector.collect([wide(0)], [wide(1)])).rejects.toThrow('no room');
    collector.close();
    expect(readdirSync(folder)).toEqual([]);
  });
});
