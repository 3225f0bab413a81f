import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { calibrate } from '../../../src/app/accuracy/calibrate.js';
import { Trace } from '../../../src/app/trace.js';
import type { GpuReading, MemorySample } from '../../../src/contract/types.js';
import { createRuntime } from '../../../src/runtime/client.js';
import { float32Tensor } from '../../../src/onnx/tensor.js';
import { writeModel } from '../../../src/onnx/write.js';
import { chain } from '../../unit/onnx/build.js';

// A folder for temporary files of its own: other tests calibrate at the same time.
const usual = process.env.TMPDIR;
const temporary = mkdtempSync(path.join(tmpdir(), 'snug-own-'));
process.env.TMPDIR = temporary;
afterAll(() => {
  if (usual === undefined) delete process.env.TMPDIR;
  else process.env.TMPDIR = usual;
  rmSync(temporary, { recursive: true, force: true });
});

const left = () => readdirSync(temporary).filter((name) => name.startsWith('snug-calibrate-'));

describe('calibration on the processor', () => {
  const runtime = createRuntime({ threads: 1 });
  afterAll(() => runtime.close());

  it('runs every probe, finds them as the estimate says, and leaves nothing behind', async () => {
    const told: string[] = [];
    const result = await calibrate(runtime, 'cpu', (done, total, name) => told.push(`${done}/${total} ${name}`));
    expect(told).toEqual(['0/4 one node', '1/4 dense layers', '2/4 feature maps', '3/4 attention']);
    for (const { predictedBytes, measuredBytes } of result.probes) {
      expect(Math.abs(predictedBytes / measuredBytes - 1)).toBeLessThan(0.05);
    }
    expect(result.fixed.peakBytes).toBeLessThan(4096);
    expect(result.percent).toBeLessThan(10);
    expect(left()).toEqual([]);
  });

  it('ends at once when it is stopped, and leaves nothing behind', async () => {
    const abort = new AbortController();
    const stoppable = createRuntime({ signal: abort.signal, threads: 1 });
    const running = calibrate(stoppable, 'cpu', (done) => {
      if (done === 1) abort.abort();
    });
    await expect(running).rejects.toMatchObject({ code: 'E_CANCELLED' });
    expect(left()).toEqual([]);
  });
});

describe.skipIf(process.platform !== 'linux')('memory of a running model (other systems: tested by hand)', () => {
  it('is what its process holds above its own start', async () => {
    const folder = mkdtempSync(path.join(tmpdir(), 'snug-trace-'));
    const runtimes = new Map<number, number>();
    const runtime = createRuntime({
      threads: 1,
      onBase: (pid, bytes) => runtimes.set(pid, bytes),
      onProcessEnd: (pid) => runtimes.delete(pid),
    });
    let seen: (sample: MemorySample) => void = () => undefined;
    const trace = new Trace({
      gpu: { id: 'ram', vendor: 'none', shared: true } as GpuReading,
      provider: 'cpu',
      runtimes: () => runtimes,
      onSample: (sample) => seen(sample),
    });
    try {
      const modelPath = path.join(folder, 'model.onnx');
      const weightBytes = 4 * 2048 * 2048;
      const values = Float32Array.from({ length: 2048 * 2048 }, (_, i) => Math.sin(i));
      writeModel(chain([float32Tensor('w', [2048, 2048], values)]), modelPath);
      const session = await runtime.open({ modelPath, provider: 'cpu' });
      // The session is open, so every sample from here on holds the weights.
      const sample = await new Promise<MemorySample>((resolve) => {
        seen = (each) => each.usedBytes > 0 && resolve(each);
      });
      expect(sample.usedBytes).toBeGreaterThan(weightBytes * 0.9);
      expect(sample.usedBytes).toBeLessThan(weightBytes * 4);
      expect(sample.deviceUsedBytes).toBeGreaterThan(sample.usedBytes);
      expect(sample.deviceTotalBytes).toBeGreaterThan(sample.deviceUsedBytes ?? 0);
      await session.close();
      expect(runtimes.size).toBe(0);
    } finally {
      trace.stop();
      await runtime.close();
      rmSync(folder, { recursive: true, force: true });
    }
  });
});
