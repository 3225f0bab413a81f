import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { floatAttribute, makeNode } from '../../../src/onnx/graph.js';
import type { Model } from '../../../src/onnx/model.js';
import { parseModel, readModel, resolveModelPath } from '../../../src/onnx/read.js';
import { float32Tensor, readFloat32, readNumbers } from '../../../src/onnx/tensor.js';
import { serializeModel } from '../../../src/onnx/write.js';
import { bytes, chain, graphOf, int, join, modelBytes, modelOf, text, value, varint, codeOf, rich } from './build.js';

const float32 = (...values: number[]): Uint8Array => new Uint8Array(Float32Array.from(values).buffer);
const fixed32 = (field: number, number: number): Uint8Array => join(varint(field * 8 + 5), float32(number));
const tensor = (...fields: Uint8Array[]): Uint8Array => modelBytes(bytes(5, text(8, 'w'), ...fields));
const first = (model: Model): NonNullable<ReturnType<Model['graph']['initializers']['get']>> =>
  model.graph.initializers.get('w')!;

describe('typed tensor data', () => {
  const long = Array.from({ length: 600 }, (_, index) => index - 300);
  it.each([
    ['packed float_data', [2], 1, bytes(4, float32(1, -2)), [1, -2]],
    ['unpacked float_data', [2], 1, join(fixed32(4, 1), fixed32(4, -2)), [1, -2]],
    ['float_data in two pieces', [2], 1, join(bytes(4, float32(1)), bytes(4, float32(-2))), [1, -2]],
    ['packed int64_data', [2], 7, bytes(7, varint(-1), varint(300)), [-1, 300]],
    ['unpacked int64_data', [2], 7, join(int(7, -1), int(7, 300)), [-1, 300]],
    ['int32_data as int32', [2], 6, bytes(5, varint(-1), varint(7)), [-1, 7]],
    ['int32_data as int8', [2], 3, bytes(5, varint(-1), varint(7)), [-1, 7]],
    ['int32_data as bool', [2], 9, bytes(5, varint(1), varint(0)), [1, 0]],
    ['int32_data as float16', [2], 10, bytes(5, varint(0x3c00), varint(0xc000)), [1, -2]],
    ['int32_data as int4', [3], 22, bytes(5, varint(0xf1), varint(2)), [1, -1, 2]],
    ['uint64_data as uint32', [1], 12, bytes(11, varint(4000000000)), [4000000000]],
    ['uint64_data as uint64', [1], 13, bytes(11, varint(5)), [5]],
    ['double_data', [1], 11, bytes(10, new Uint8Array(Float64Array.of(0.1).buffer)), [0.1]],
    ['long int64_data, decoded when read', [600], 7, bytes(7, ...long.map(varint)), long],
    ['long unpacked float_data', [600], 1, join(...long.map((x) => fixed32(4, x))), long],
  ])('%s', (_, dims, dataType, field, expected) => {
    const model = parseModel(tensor(...dims.map((dim) => int(1, dim)), int(2, dataType), field));
    expect(readNumbers(first(model))).toEqual(expected);
    // Written as raw_data, it is still the same.
    expect(readNumbers(first(parseModel(serializeModel(model))))).toEqual(expected);
  });

  it('keeps strings', () => {
    const model = parseModel(tensor(int(1, 2), int(2, 8), text(6, 'ab'), text(6, '')));
    expect(first(model).strings?.map((s) => Buffer.from(s).toString())).toEqual(['ab', '']);
    expect(first(parseModel(serializeModel(model))).strings).toHaveLength(2);
  });

  it.each([
    ['too few bytes', tensor(int(1, 2), int(2, 1), bytes(9, float32(1)))],
    ['too many bytes', tensor(int(1, 1), int(2, 1), bytes(9, float32(1, 2)))],
    ['no data', tensor(int(1, 1), int(2, 1))],
    ['negative dims', tensor(int(1, -1), int(2, 1), bytes(9))],
    ['absurd dims', tensor(int(1, 2n ** 62n), int(1, 2n ** 62n), int(2, 1))],
    ['absurd dims with a zero', tensor(int(1, 2n ** 62n), int(1, 0), int(2, 1))],
    ['an unknown element type', tensor(int(1, 1), int(2, 99), bytes(9, float32(1)))],
    ['the wrong typed field', tensor(int(1, 1), int(2, 1), bytes(7, varint(1)))],
    ['data twice', tensor(int(1, 1), int(2, 1), bytes(4, float32(1)), bytes(9, float32(1)))],
    ['a rank of 65', tensor(...Array.from({ length: 65 }, () => int(1, 1)), int(2, 1), bytes(9, float32(1)))],
    ['too few strings', tensor(int(1, 2), int(2, 8), text(6, 'a'))],
  ])('refuses %s', (_, file) => {
    expect(codeOf(() => parseModel(file))).toBe('E_MALFORMED');
  });
});

describe('rules of the format', () => {
  const node = (...fields: Uint8Array[]): Uint8Array => modelBytes(bytes(1, ...fields));
  it.each([
    ['a field longer than its message', modelBytes(Uint8Array.of(0x0a, 0x7f))],
    ['groups', modelBytes(Uint8Array.of(0x0b, 0x0c))],
    ['field number 0', modelBytes(Uint8Array.of(0x02, 0x00))],
    [
      'a varint of eleven bytes',
      modelBytes(join(Uint8Array.of(0x60), new Uint8Array(10).fill(0xff), Uint8Array.of(1))),
    ],
    ['a wrong wire type', node(int(1, 5))],
    ['a name that is no UTF-8', node(bytes(1, Uint8Array.of(0xc3, 0x28)))],
    ['an attribute twice', node(bytes(5, text(1, 'a'), int(3, 1)), bytes(5, text(1, 'a'), int(3, 1)))],
    ['an attribute with two values', node(bytes(5, text(1, 'a'), int(3, 1), fixed32(2, 1)))],
    ['an attribute of another type than it says', node(bytes(5, text(1, 'a'), int(3, 1), int(20, 1)))],
    ['an initializer twice', modelBytes(...[1, 2].map(() => bytes(5, text(8, 'w'), int(1, 0), int(2, 1))))],
    ['an initializer without a name', modelBytes(bytes(5, int(1, 0), int(2, 1)))],
    ['two graphs', join(modelBytes(), bytes(7))],
    ['two opset versions of one domain', join(modelBytes(), bytes(8, text(1, 'ai.onnx'), int(2, 18)))],
    ['a name of 100 KB', node(text(1, 'n'.repeat(100_000)))],
  ])('refuses %s', (_, file) => {
    expect(codeOf(() => parseModel(file))).toBe('E_MALFORMED');
  });

  it('refuses deep nesting before the stack does', () => {
    let graph = bytes(1, text(4, 'Op'));
    for (let depth = 0; depth < 70; depth++) graph = bytes(1, text(4, 'If'), bytes(5, text(1, 'b'), bytes(6, graph)));
    expect(codeOf(() => parseModel(modelBytes(graph)))).toBe('E_TOO_COSTLY');
    let huge = bytes(1, text(4, 'Op'));
    for (let depth = 0; depth < 3000; depth++) huge = bytes(1, bytes(5, bytes(6, huge)));
    expect(codeOf(() => parseModel(modelBytes(huge)))).toBe('E_TOO_COSTLY');
  });

  it('refuses too many nodes, tensors and too much structure', () => {
    const nodes = modelBytes(...Array.from({ length: 20 }, () => bytes(1)));
    expect(codeOf(() => parseModel(nodes, { limits: { nodes: 19 } }))).toBe('E_TOO_COSTLY');
    expect(codeOf(() => parseModel(nodes, { limits: { nodes: 20 } }))).toBe('none');
    expect(codeOf(() => parseModel(serializeModel(rich()), { limits: { tensors: 1 } }))).toBe('E_TOO_COSTLY');
    expect(codeOf(() => parseModel(serializeModel(rich()), { limits: { retainedBytes: 500 } }))).toBe('E_TOO_COSTLY');
  });

  it('refuses external data where it could not be followed', () => {
    const external = bytes(
      1,
      text(8, 'v'),
      int(1, 1),
      int(2, 1),
      bytes(13, text(1, 'location'), text(2, 'f')),
      int(14, 1),
    );
    expect(codeOf(() => parseModel(modelBytes(bytes(15, external))))).toBe('E_NOT_SUPPORTED');
    const body = bytes(7, bytes(5, text(1, 'value'), bytes(5, external.subarray(2))));
    expect(codeOf(() => parseModel(join(modelBytes(), bytes(25, text(1, 'f'), body))))).toBe('E_NOT_SUPPORTED');
    expect(codeOf(() => parseModel(modelBytes(bytes(5, external.subarray(2)))))).toBe('E_EXTERNAL_MISSING');
  });

  it('reads attributes that leave out their type or their zero', () => {
    const attributes = parseModel(
      node(
        bytes(5, text(1, 'a'), int(3, 7)),
        bytes(5, text(1, 'zero'), int(20, 2)),
        bytes(5, text(1, 'none'), int(20, 7)),
      ),
    ).graph.nodes[0]!.attributes;
    expect(attributes.get('a')).toMatchObject({ type: 'int', value: 7 });
    expect(attributes.get('zero')).toMatchObject({ type: 'int', value: 0 });
    expect(attributes.get('none')).toMatchObject({ type: 'ints', value: [] });
  });

  it('keeps integers of 64 bits exact through a round trip', () => {
    const file = node(
      text(4, 'Slice'),
      bytes(5, text(1, 'ends'), bytes(8, varint(2n ** 63n - 1n), varint(-(2n ** 63n))), int(20, 7)),
    );
    const again = serializeModel(parseModel(file), { nodeOrder: 'keep' });
    expect(Buffer.from(again).includes(Buffer.from(varint(2n ** 63n - 1n)))).toBe(true);
  });
});

describe('round trip', () => {
  it('keeps everything, known or not', () => {
    const once = serializeModel(rich(), { nodeOrder: 'keep' });
    const model = parseModel(once);
    expect(Buffer.from(serializeModel(model, { nodeOrder: 'keep' })).equals(once)).toBe(true);
    expect(model.unknown).toHaveLength(1);
    expect(model.graph.nodes[0]?.unknown).toEqual([int(77, 5)]);
    expect(model.graph.inputs.map(({ name, dims }) => [name, dims])).toEqual([
      ['x', ['batch', 2]],
      ['c', []],
    ]);
  });

  it('encodes an attribute anew when it was replaced', () => {
    const model = parseModel(serializeModel(rich(), { nodeOrder: 'keep' }));
    const leaky = model.graph.nodes.find((node) => node.opType === 'LeakyRelu')!;
    leaky.attributes.set('alpha', floatAttribute(0.5));
    const again = parseModel(serializeModel(model)).graph.nodes.find((node) => node.opType === 'LeakyRelu')!;
    expect(again.attributes.get('alpha')).toMatchObject({ type: 'float', value: 0.5 });
    expect(again.attributes.get('list')).toMatchObject({ value: [1, 2] });
  });

  it('parse ∘ write is the identity on generated models', () => {
    const name = fc.string({ minLength: 1, maxLength: 8 });
    fc.assert(
      fc.property(
        fc.uniqueArray(name, { minLength: 1, maxLength: 5 }),
        fc.array(fc.tuple(name, name, fc.integer(), fc.float({ noNaN: true })), { maxLength: 5 }),
        fc.array(fc.oneof(fc.nat(), name, fc.constant(null)), { maxLength: 4 }),
        (weights, nodes, dims) => {
          const model = modelOf(
            graphOf({
              nodes: nodes.map(([op, input, number, float]) =>
                makeNode(op, [input, ''], [`${op}/out`], {
                  number: { type: 'int', value: number },
                  f: floatAttribute(float),
                }),
              ),
              initializers: weights.map((weight, i) => float32Tensor(weight, [i], new Float32Array(i).fill(i))),
              inputs: [value('in', dims)],
            }),
          );
          const file = serializeModel(model, { nodeOrder: 'keep' });
          const again = parseModel(file);
          expect(Buffer.from(serializeModel(again, { nodeOrder: 'keep' })).equals(file)).toBe(true);
          expect([...again.graph.initializers.keys()]).toEqual(weights);
          expect(again.graph.inputs[0]?.dims).toEqual(dims);
          expect(again.graph.nodes.map((node) => node.opType)).toEqual(nodes.map(([op]) => op));
        },
      ),
    );
  });
});

describe('paths', () => {
  let folder = '';
  beforeAll(() => {
    folder = mkdtempSync(path.join(os.tmpdir(), 'snug-read-'));
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  it('takes a folder with one model', () => {
    const inner = path.join(folder, 'one');
    mkdirSync(inner);
    expect(codeOf(() => resolveModelPath(inner))).toBe('E_NOT_FOUND');
    writeFileSync(path.join(inner, 'a.onnx'), serializeModel(rich()));
    expect(resolveModelPath(inner)).toBe(path.join(inner, 'a.onnx'));
    expect(readModel(inner).source?.path).toBe(path.join(inner, 'a.onnx'));
    writeFileSync(path.join(inner, 'b.onnx'), '');
    expect(codeOf(() => resolveModelPath(inner))).toBe('E_NOT_FOUND');
  });

  it('names missing and empty files', () => {
    expect(codeOf(() => readModel(path.join(folder, 'nowhere.onnx')))).toBe('E_NOT_FOUND');
    const empty = path.join(folder, 'empty.onnx');
    writeFileSync(empty, '');
    expect(codeOf(() => readModel(empty))).toBe('E_NOT_ONNX');
  });

  it('notices that the file changed after it was opened', () => {
    const file = path.join(folder, 'changing.onnx');
    const big = chain([float32Tensor('w', [64, 64], new Float32Array(4096).fill(1))]);
    writeFileSync(file, serializeModel(big));
    const model = readModel(file);
    expect(first(model).data.origin).toBe('file');
    expect(readFloat32(first(model))[4095]).toBe(1);
    expect(first(model).data.readRange(4, 4)).toEqual(float32(1));
    writeFileSync(file, serializeModel(rich()));
    expect(codeOf(() => first(model).data.read())).toBe('E_FILE_CHANGED');
    rmSync(file);
    expect(codeOf(() => first(model).data.read())).toBe('E_FILE_CHANGED');
  });

  it('reads through a link to the model', () => {
    writeFileSync(path.join(folder, 'real.onnx'), serializeModel(rich()));
    symlinkSync(path.join(folder, 'real.onnx'), path.join(folder, 'link.onnx'));
    expect(readModel(path.join(folder, 'link.onnx')).graph.nodes).toHaveLength(4);
  });
});
