import { describe, expect, it } from 'vitest';
import { intAttribute as i, intsAttribute as is, stringAttribute as s } from '../../../src/onnx/attribute.js';
import { gradientError, type TestGraph } from './support.js';

const resized = (
  attributes: Record<string, string>,
  scales: number[] | null,
  sizes: number[] | null,
  more: TestGraph['nodes'][0]['attributes'] = {},
): TestGraph => ({
  wanted: { x: [2, 2, 5, 6] },
  ...(scales ? { floats: { scales: { dims: [scales.length], values: scales } } } : {}),
  ...(sizes ? { ints: { sizes: { dims: [sizes.length], values: sizes } } } : {}),
  nodes: [
    {
      op: 'Resize',
      in: sizes ? ['x', '', '', 'sizes'] : ['x', '', 'scales'],
      out: ['y'],
      attributes: {
        ...Object.fromEntries(Object.entries(attributes).map(([name, value]) => [name, s(value)])),
        ...more,
      },
    },
  ],
});

const coordinates = ['half_pixel', 'pytorch_half_pixel', 'align_corners', 'asymmetric', 'half_pixel_symmetric'];
const roundings = ['floor', 'ceil', 'round_prefer_floor', 'round_prefer_ceil'];

describe('Resize against differences along random directions', () => {
  for (const mode of ['nearest', 'linear', 'cubic']) {
    for (const coordinate_transformation_mode of coordinates) {
      if (mode === 'nearest' && coordinate_transformation_mode === 'half_pixel_symmetric') continue;
      it(`${mode}, ${coordinate_transformation_mode}`, async () => {
        for (const nearest_mode of mode === 'nearest' ? roundings : ['floor']) {
          const attributes = { mode, coordinate_transformation_mode, nearest_mode };
          const forms = [
            resized(attributes, null, [2, 2, 10, 12]),
            resized(attributes, null, [2, 2, 8, 4]),
            resized(attributes, [1, 1, 2, 1.5], null),
            resized(attributes, [1, 1, 0.6, 2.3], null),
          ];
          for (const graph of forms) expect(await gradientError(graph, 1), JSON.stringify(graph)).toBeLessThan(2e-3);
        }
      });
    }
  }

  it('takes axes, and weights without what lies outside', async () => {
    const cubic = { mode: 'cubic', coordinate_transformation_mode: 'half_pixel' };
    expect(
      await gradientError(resized(cubic, [1.7, 2], null, { axes: is([2, 3]), exclude_outside: i(1) }), 1),
    ).toBeLessThan(2e-3);
    const open = resized(
      { mode: 'nearest', coordinate_transformation_mode: 'asymmetric', nearest_mode: 'floor' },
      [1, 1, 2, 2],
      null,
    );
    expect(await gradientError({ ...open, wanted: { x: ['batch', 2, 3, 4] } }, 1)).toBeLessThan(2e-3);
  });

  it('refuses antialiasing by name', async () => {
    const smooth = resized({ mode: 'linear' }, null, [2, 2, 3, 3], { antialias: i(1) });
    await expect(gradientError(smooth, 1)).rejects.toMatchObject({ code: 'E_NOT_SUPPORTED' });
  });
});
