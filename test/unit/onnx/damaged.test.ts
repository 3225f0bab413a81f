import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { checkModel, unknownOperators } from '../../../src/onnx/check.js';
import { parseModel } from '../../../src/onnx/read.js';
import { summarizeModel } from '../../../src/onnx/summary.js';
import { readFloat32 } from '../../../src/onnx/tensor.js';
import { serializeModel } from '../../../src/onnx/write.js';
import { codeOf, int, join, modelBytes, rich } from './build.js';

describe('damaged files', () => {
  const file = serializeModel(rich());
  const use = (damaged: Uint8Array): void => {
    const model = parseModel(damaged);
    for (const weight of model.graph.initializers.values()) if (weight.dataType === 1) readFloat32(weight);
    summarizeModel(model);
    unknownOperators(model);
    checkModel(model);
    serializeModel(model);
  };

  it('calls every proper prefix cut short or not ONNX', () => {
    for (let length = 0; length < file.byteLength; length++) {
      // A prefix that ends between the graph and what follows it is a whole message.
      expect(['E_TRUNCATED', 'E_NOT_ONNX', 'none']).toContain(codeOf(() => parseModel(file.subarray(0, length))));
    }
    expect(codeOf(() => parseModel(file.subarray(0, file.byteLength >> 1)))).toBe('E_TRUNCATED');
    expect(codeOf(() => parseModel(file.subarray(0, 20)))).toBe('E_TRUNCATED');
  });

  it('answers any mutation with a model or a named error', () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.nat(file.byteLength - 1), fc.nat(255)), { minLength: 1, maxLength: 6 }),
        fc.option(fc.nat(file.byteLength)),
        (edits, cut) => {
          const damaged = file.slice(0, cut ?? file.byteLength);
          for (const [at, byte] of edits) if (at < damaged.byteLength) damaged[at] = byte;
          expect(codeOf(() => use(damaged))).not.toMatch(/^raw/);
        },
      ),
      { numRuns: 3000 },
    );
  });

  it('answers random bytes after a model-like start with a named error', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (tail) => {
        expect(codeOf(() => use(join(int(1, 8), tail)))).not.toMatch(/^raw/);
        expect(codeOf(() => use(modelBytes(tail)))).not.toMatch(/^raw/);
      }),
      { numRuns: 2000 },
    );
  });

  it.each([
    ['text', Buffer.from('Hello, this is no model at all')],
    ['zeros', new Uint8Array(1000)],
    ['a zip', Buffer.from('PK\u0003\u0004 and so on')],
    ['a web page', Buffer.from('<!DOCTYPE html><html></html>')],
    ['GGUF', Buffer.from('GGUF\u0003\u0000\u0000\u0000')],
    ['safetensors', join(Uint8Array.of(8, 2, 0, 0, 0, 0, 0, 0), Buffer.from('{"a":{}}'))],
    ['a Git LFS pointer', Buffer.from('version https://git-lfs.github.com/spec/v1\noid sha256:0')],
    ['nothing', new Uint8Array(0)],
  ])('calls %s not ONNX', (_, content) => {
    expect(codeOf(() => parseModel(content))).toBe('E_NOT_ONNX');
  });
});
