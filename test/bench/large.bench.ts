/**
 * `npm run bench:large`: a generated model with 6 GB of external weights is inspected and quantized; prints time
 * and how much more memory that takes than the same command on a tiny model. Needs 10 GB of disk in the
 * temporary folder (SNUG_BENCH_DIR names another). Linux only: memory is read from /proc.
 */
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, statfsSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Model, TensorData } from '../../src/onnx/model.js';
import { writeModel } from '../../src/onnx/write.js';
import { matMulChain } from '../cli/models.js';
import { startSnug } from '../cli/run-snug.js';

const width = 4096;
const layers = 96; // 96 × 4096² × 4 bytes = 6.4 GB
const base = process.env.SNUG_BENCH_DIR ?? tmpdir();
const folder = mkdtempSync(path.join(base, 'snug-large-'));
const room = statfsSync(base);
const enough = room.bavail * room.bsize > 10e9;

/** The same random layer again and again, repeated by the writer's own streaming. */
function largeModel(): Model {
  const layer = path.join(folder, 'layer.bin');
  const values = new Float32Array(width * width);
  let seed = 1;
  for (let i = 0; i < values.length; i++) {
    seed = (seed * 1664525 + 1013904223) >>> 0;
    values[i] = (seed / 2 ** 32 - 0.5) / Math.sqrt(width);
  }
  const fd = openSync(layer, 'w');
  writeSync(fd, new Uint8Array(values.buffer));
  closeSync(fd);
  const data: TensorData = {
    byteLength: values.byteLength,
    origin: 'computed',
    read: () => new Uint8Array(values.buffer),
    readRange: (offset, length) => new Uint8Array(values.buffer, offset, length),
  };
  const model = matMulChain(layers, 4);
  for (const tensor of model.graph.initializers.values()) {
    tensor.dims = [width, width];
    tensor.data = data;
  }
  for (const value of [...model.graph.inputs, ...model.graph.outputs]) value.dims = ['batch', width];
  return model;
}

/** Runs a command and reads its high-water mark of resident memory while it runs, in MB. */
async function measured(
  args: string[],
): Promise<{ seconds: number; megabytes: number; code: number | null; stderr: string }> {
  const started = performance.now();
  const { child, finished } = startSnug(args);
  let peak = 0;
  const timer = setInterval(() => {
    try {
      const status = readFileSync(`/proc/${child.pid}/status`, 'utf8');
      peak = Math.max(peak, Number(/VmHWM:\s+(\d+)/.exec(status)?.[1] ?? 0) / 1000);
    } catch {
      // Ended in between.
    }
  }, 10);
  const { code, stderr } = await finished;
  clearInterval(timer);
  return { seconds: (performance.now() - started) / 1000, megabytes: peak, code, stderr };
}

describe.skipIf(!enough || process.platform !== 'linux')(
  '6 GB of external weights (needs Linux and 10 GB of disk)',
  () => {
    const tiny = path.join(folder, 'tiny.onnx');
    const large = path.join(folder, 'large.onnx');
    beforeAll(() => {
      writeModel(matMulChain(2, 64), tiny);
      const { bytes } = writeModel(largeModel(), large, { externalData: 'always' });
      console.log(`model of ${(bytes / 1e9).toFixed(2)} GB`);
    });
    afterAll(() => rmSync(folder, { recursive: true, force: true }));

    it('inspect', async () => {
      const small = await measured(['inspect', tiny, '--json']);
      const result = await measured(['inspect', large, '--json']);
      console.log(
        `inspect: ${result.seconds.toFixed(2)} s, ${(result.megabytes - small.megabytes).toFixed(0)} MB more than a tiny model`,
      );
      expect(result.code).toBe(0);
      expect(result.seconds).toBeLessThan(2);
      expect(result.megabytes - small.megabytes).toBeLessThan(200);
    });

    it('quantize --dtype int4', async () => {
      const small = await measured(['quantize', tiny, '-o', path.join(folder, 'tiny4.onnx'), '--dtype', 'int4', '-q']);
      const result = await measured([
        'quantize',
        large,
        '-o',
        path.join(folder, 'large4.onnx'),
        '--dtype',
        'int4',
        '-q',
      ]);
      expect(result.stderr).toBe('');
      console.log(
        `quantize: ${result.seconds.toFixed(0)} s, ${(result.megabytes - small.megabytes).toFixed(0)} MB more than a tiny model`,
      );
      expect(result.code).toBe(0);
      expect(result.megabytes - small.megabytes).toBeLessThan(1000);
    });
  },
);
