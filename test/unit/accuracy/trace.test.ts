import { describe, expect, it } from 'vitest';
import { thinned, Trace } from '../../../src/app/trace.js';
import type { GpuReading, MemorySample, Provider } from '../../../src/contract/types.js';
import type { DeviceSample, SampleOptions } from '../../../src/hardware/sample.js';

/** A sampler that is moved by hand: the process list is asked, then the device answers. */
function traced(provider: Provider, vendor: GpuReading['vendor']) {
  const runtimes = new Map<number, number>();
  const told: MemorySample[] = [];
  let options: SampleOptions | null = null;
  let stopped = 0;
  const trace = new Trace({
    gpu: { vendor } as GpuReading,
    provider,
    runtimes: () => runtimes,
    onSample: (sample) => told.push(sample),
    sample: (given) => {
      options = given;
      return { source: 'test', intervalMs: 250, stop: () => (stopped += 1), ended: new Promise(() => undefined) };
    },
  });
  const look = (sample: Partial<DeviceSample>): number[] => {
    const pids = [...(options?.pids?.() ?? [])];
    options?.onSample({ atMs: 1, usedBytes: null, totalBytes: null, oursBytes: null, ...sample });
    return pids;
  };
  return { runtimes, told, trace, look, stopped: () => stopped };
}

describe('memory while a job runs', () => {
  it('is told only while a process that runs a model is there', () => {
    const { runtimes, told, trace, look, stopped } = traced('cpu', 'none');
    expect(look({ oursBytes: 5 })).toEqual([]);
    runtimes.set(7, 80);
    expect(look({ atMs: 250.4, oursBytes: 100, usedBytes: 900, totalBytes: 1000 })).toEqual([7]);
    runtimes.clear();
    look({ oursBytes: 0 });
    expect(told).toEqual([{ atMs: 250, usedBytes: 20, deviceUsedBytes: 900, deviceTotalBytes: 1000 }]);
    expect(trace.samples).toEqual(told);
    trace.stop();
    expect(stopped()).toBe(1);
  });

  it('counts on the processor what is above each process’s own share, never less than nothing', () => {
    const { runtimes, told, look } = traced('webgpu', 'none');
    runtimes.set(7, 80).set(8, 60);
    look({ oursBytes: 200, usedBytes: 900 });
    look({ oursBytes: 100, usedBytes: 900 });
    // The processes have just gone; that others use more now is none of the model's doing.
    look({ oursBytes: null, usedBytes: 5000 });
    expect(told.map(({ usedBytes }) => usedBytes)).toEqual([60, 0]);
  });

  it('counts on a GPU what the driver says, or how far its level rose', () => {
    const { runtimes, told, look } = traced('cuda', 'nvidia');
    look({ usedBytes: 1000 });
    runtimes.set(7, 80);
    look({ usedBytes: 1600, oursBytes: 450 });
    look({ usedBytes: 1700 });
    // Neither is known: nothing is told rather than a zero.
    look({});
    expect(told.map(({ usedBytes }) => usedBytes)).toEqual([450, 700]);
  });

  it('stays short without losing its highest point', () => {
    const { runtimes, trace, look } = traced('cpu', 'none');
    runtimes.set(7, 0);
    for (let at = 0; at < 3000; at += 1) look({ atMs: at, oursBytes: at === 1234 ? 9999 : at % 10 });
    expect(trace.samples.length).toBeLessThanOrEqual(480);
    expect(Math.max(...trace.samples.map(({ usedBytes }) => usedBytes))).toBe(9999);
    expect(thinned(trace.samples.slice(0, 3))).toHaveLength(2);
    const times = trace.samples.map(({ atMs }) => atMs);
    expect(times).toEqual([...times].sort((a, b) => a - b));
  });
});
