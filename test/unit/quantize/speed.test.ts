import { expect, it } from 'vitest';
import { productSpeed } from '../../../src/quantize/speed.js';

it('tells only what was measured: the processor, by how many rows run at once', () => {
  expect(productSpeed('cpu', 'int8', 1)).toBe('faster');
  expect(productSpeed('cpu', 'int8', 128)).toBe('slower');
  expect(productSpeed('cpu', 'int4', 128)).toBe('same');
  expect(productSpeed('cpu', 'int8-static', 128)).toBe('faster');
  expect(productSpeed('cpu', 'fp16', 1)).toBeNull();
  expect(productSpeed('cuda', 'int4', 1)).toBeNull();
  expect(productSpeed('webgpu', 'fp32', 1)).toBe('same');
});
