import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { intAttribute, intsAttribute, stringAttribute } from '../../../src/onnx/attribute.js';
import { makeNode } from '../../../src/onnx/graph.js';
import type { Estimate } from '../../../src/contract/types.js';
import type { Attribute, Model } from '../../../src/onnx/model.js';
import { computedData } from '../../../src/onnx/tensor.js';
import { DeviceHeaps, heapBytes, ownMemoryBytes } from '../../../src/memory/device-heaps.js';
import { placeNodes } from '../../../src/memory/device-webgpu-placement.js';
import { estimateMemory } from '../../../src/memory/estimate.js';
import { lowerModel } from '../../../src/memory/rewrite/lower.js';
import { graphOf, modelOf, value } from '../onnx/build.js';

const MiB = 2 ** 20;
const weight = (name: string, ...dims: number[]) => ({
  name,
  dataType: 1,
  dims,
  data: computedData(
    dims.reduce((a, b) => a * b, 4),
    () => expect.unreachable('weights must stay on disk'),
  ),
});

function model(
  nodes: Parameters<typeof graphOf>[0]['nodes'],
  initializers: ReturnType<typeof weight>[],
  input: (string | number)[],
  output: (string | number | null)[],
): Model {
  return modelOf(graphOf({ nodes, initializers, inputs: [value('x', input)], outputs: [value('y', output)] }));
}

describe('heaps of a WebGPU device', () => {
  test('small buffers share heaps, large ones have memory of their own', () => {
    const heaps = new DeviceHeaps();
    heaps.place(100);
    expect(heaps.bytes).toBe(heapBytes);
    heaps.place(ownMemoryBytes);
    expect(heaps.bytes).toBe(heapBytes + ownMemoryBytes);
    // 3 MiB take 4 MiB of the heap, so the second no longer fits beside the first small one.
    heaps.place(3 * MiB);
    expect(heaps.heaps).toBe(1);
    heaps.place(3 * MiB);
    expect(heaps.heaps).toBe(2);
  });

  test('what is given back is merged and used again', () => {
    const heaps = new DeviceHeaps();
    const small = Array.from({ length: 2048 }, () => heaps.place(4000));
    expect(heaps.heaps).toBe(1);
    for (const buffer of small) heaps.release(buffer);
    heaps.place(3 * MiB);
    heaps.place(3 * MiB);
    expect(heaps.heaps).toBe(1);
  });

  test('buffers never overlap', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.integer({ min: 1, max: ownMemoryBytes - 1 }), fc.boolean())), (requests) => {
        const heaps = new DeviceHeaps();
        const held = new Map<number, number>();
        for (const [bytes, drop] of requests) {
          const buffer = heaps.place(bytes);
          const offset = buffer.offset ?? NaN;
          for (const [start, size] of held) expect(offset + bytes <= start || start + size <= offset).toBe(true);
          if (drop) heaps.release(buffer);
          else held.set(offset, bytes);
        }
      }),
    );
  });
});

describe('webgpu', () => {
  const dims = {};
  const pair = [makeNode('MatMul', ['x', 'w'], ['h']), makeNode('Relu', ['h'], ['y'])];

  test('weights are exact; values come in buckets that a new batch may already have room for', () => {
    const mlp = model(pair, [weight('w', 256, 1024)], ['batch', 256], ['batch', 1024]);
    const small = estimateMemory(mlp, { provider: 'webgpu', batch: 8, dims });
    expect(small.load.peakBytes).toBe(256 * 1024 * 4);
    // What runs fits the heap that every session has; the input and two readings of the output are staged.
    expect(small.warm.peakBytes).toBe(256 * 1024 * 4 + 8 * 256 * 4 + 2 * 8 * 1024 * 4);
    // 1 MiB in, 4 MiB between and 4 MiB out: both of the latter have memory of their own.
    const large = estimateMemory(mlp, { provider: 'webgpu', batch: 1024, dims });
    expect(large.cold.peakBytes).toBe((1 + 2 * 4 + 1 + 4) * MiB);
  });

  test('parameters of many nodes add next to nothing: the ring they pass through belongs to the device', () => {
    const chain = (length: number): Model =>
      model(
        Array.from({ length }, (_, i) =>
          makeNode('Relu', [i === 0 ? 'x' : `h${i}`], [i === length - 1 ? 'y' : `h${i + 1}`]),
        ),
        [],
        ['batch', 16],
        ['batch', 16],
      );
    const peak = (length: number): number =>
      estimateMemory(chain(length), { provider: 'webgpu', batch: 1, dims }).peakBytes;
    expect(peak(100)).toBe(peak(10));
    expect(peak(100)).toBeLessThan(1024);
  });

  test('filters are turned at load: the copy stays, the originals but the last go', () => {
    const nodes = ['a', 'b', 'y'].map((name, i) =>
      makeNode('Conv', [['x', 'a', 'b'][i]!, `w${i}`], [name], { pads: intsAttribute([1, 1, 1, 1]) }),
    );
    const filters = [0, 1, 2].map((i) => weight(`w${i}`, 512, 512, 3, 3));
    const each = 512 * 512 * 9 * 4;
    const { load, warm } = estimateMemory(model(nodes, filters, ['batch', 512, 4, 4], ['batch', 512, 4, 4]), {
      provider: 'webgpu',
      batch: 1,
      dims,
    });
    expect(load.peakBytes).toBe(6 * each);
    expect(warm.peakBytes).toBe(4 * each + 3 * 512 * 16 * 4);
  });

  test.each([
    { head: [2, 64, 1, 1], order: 'last', gone: 4 },
    { head: [1, 64, 3, 3], order: 'last', gone: 4 },
    { head: [2, 64, 3, 3], order: 'last', gone: 0 },
    { head: [64, 64, 1, 1], order: 'first', gone: 0 },
  ])('originals that go while the $order filter $head is turned: $gone', ({ head, order, gone }) => {
    const deep = Array<number[]>(6).fill([64, 64, 3, 3]);
    const sizes = order === 'last' ? [...deep, head] : [head, ...deep];
    const nodes = sizes.map(([, , kernel = 1], i) => {
      const pads = intsAttribute(Array<number>(4).fill((kernel - 1) / 2));
      return makeNode('Conv', [i === 0 ? 'x' : `h${i}`, `w${i}`], [i === 6 ? 'y' : `h${i + 1}`], { pads });
    });
    const filters = sizes.map((dims, i) => weight(`w${i}`, ...dims));
    const graph = model(nodes, filters, ['batch', 64, 4, 4], ['batch', sizes[6]![0]!, 4, 4]);
    const { load } = estimateMemory(graph, { provider: 'webgpu', batch: 1, dims });
    const all = filters.reduce((sum, { data }) => sum + data.byteLength, 0);
    expect(load.peakBytes).toBe(Math.ceil(all / 16) * 16 - gone * 64 * 64 * 9 * 4);
  });

  test('padding that depends on the input leaves a filter to be turned in every run', () => {
    const peak = (attributes: Record<string, Attribute>): Estimate =>
      estimateMemory(
        model(
          [makeNode('Conv', ['x', 'w'], ['y'], attributes)],
          [weight('w', 2048, 512, 3, 3)],
          ['batch', 512, 4, 4],
          ['batch', 2048, 4, 4],
        ),
        { provider: 'webgpu', batch: 1, dims },
      );
    const bytes = 2048 * 512 * 9 * 4;
    expect(peak({ auto_pad: stringAttribute('SAME_UPPER') }).load.peakBytes).toBe(bytes);
    expect(peak({ pads: intsAttribute([1, 1, 1, 1]) }).load.peakBytes).toBe(2 * bytes);
  });

  test('sizes are computed by the CPU, and constants only it reads need no device memory', () => {
    const nodes = [
      makeNode('Shape', ['x'], ['size']),
      makeNode('Gather', ['size', 'first'], ['rows']),
      makeNode('Concat', ['rows', 'rest'], ['target'], { axis: intAttribute(0) }),
      makeNode('MatMul', ['x', 'w'], ['h']),
      makeNode('Reshape', ['h', 'target'], ['y']),
    ];
    const initializers = new Map(
      [weight('first', 1), weight('rest', 1), weight('w', 4, 4)].map((tensor) => [tensor.name, tensor]),
    );
    const placement = placeNodes(nodes, initializers, ['x'], () => 1);
    expect([...placement.host].sort()).toEqual(['rows', 'size', 'target']);
    expect([...placement.deviceWeights]).toEqual(['w']);
    expect(placement.readsBack.size).toBe(0);
  });

  test('operators without a kernel read their input back', () => {
    const nodes = [makeNode('Relu', ['x'], ['h']), makeNode('DynamicQuantizeLinear', ['h'], ['q', 's', 'z'])];
    const { host, readsBack } = placeNodes(nodes, new Map(), ['x'], () => 1);
    expect([...host]).toEqual(['q', 's', 'z']);
    expect(readsBack.has(nodes[1]!)).toBe(true);
  });

  test('convolutions run with channels last: one copy in, one out, nothing in between', () => {
    const nodes = [
      makeNode('Conv', ['x', 'w0'], ['a']),
      makeNode('Conv', ['a', 'w1'], ['b']),
      makeNode('Add', ['a', 'b'], ['c']),
      makeNode('GlobalAveragePool', ['c'], ['d']),
      makeNode('Flatten', ['d'], ['y']),
    ];
    const graph = model(nodes, [weight('w0', 8, 8, 1, 1), weight('w1', 8, 8, 1, 1)], ['n', 8, 4, 4], ['n', 8]);
    const kinds = lowerModel(graph, 'webgpu').nodes.map((node) => node.opType);
    expect(kinds).toEqual(['Transpose', 'Conv', 'Conv', 'Add', 'GlobalAveragePool', 'Transpose', 'Flatten']);
  });

  test('limits name the buffer and what it exceeds', () => {
    const limitsOf = (rows: number): string[] =>
      estimateMemory(model(pair, [weight('w', rows, 1024)], ['batch', rows], ['batch', 1024]), {
        provider: 'webgpu',
        batch: 1,
        dims,
      }).limits;
    expect(limitsOf(32768)).toEqual([]);
    expect(limitsOf(40000)).toEqual([expect.stringContaining('"w" needs 163840000 bytes in one binding')]);
    expect(limitsOf(80000)).toEqual([expect.stringContaining('256 MiB')]);
    expect(limitsOf(600000)).toEqual([expect.stringContaining('2 GiB')]);
  });
});

describe('providers that are not measured', () => {
  test('say how sure they are with bounds around the estimate', () => {
    const mlp = model(
      [makeNode('MatMul', ['x', 'w'], ['h']), makeNode('Relu', ['h'], ['y'])],
      [weight('w', 1024, 1024)],
      ['batch', 1024],
      ['batch', 1024],
    );
    for (const provider of ['cuda', 'dml', 'coreml'] as const) {
      const { peakBytes, lowBytes, highBytes } = estimateMemory(mlp, { provider, batch: 64, dims: {} });
      const half = provider === 'coreml' ? 2 : 1;
      expect(lowBytes).toBeGreaterThanOrEqual((1024 * 1024 * 4) / half);
      expect(lowBytes).toBeLessThan(peakBytes);
      expect(highBytes).toBeGreaterThan(peakBytes);
    }
  });
});
