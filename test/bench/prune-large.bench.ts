/**
 * Part of `npm run bench:prune`: half of every hidden width of a network the size of ViT-B/16 is removed and repaired
 * with 256 samples. Prints time (on the clock and of the processors) and the peak of resident memory over the process
 * that computes and the one that runs the model. Linux only: memory is read from /proc.
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { openModel } from '../../src/app/open.js';
import { madeUpDataset } from '../../src/fit/made-up.js';
import { writeModel } from '../../src/onnx/write.js';
import { pruneModel } from '../../src/prune/index.js';
import { createRuntime } from '../../src/runtime/client.js';
import { vitB16 } from './graphs/index.js';

const folder = mkdtempSync(path.join(tmpdir(), 'snug-bench-prune-large-'));

function residentBytes(pid: number | 'self'): number {
  try {
    const status = readFileSync(`/proc/${pid}/status`, 'utf8');
    return Number(/VmRSS:\s+(\d+)/.exec(status)?.[1] ?? 0) * 1024;
  } catch {
    return 0; // Ended in between.
  }
}

/** Processor seconds of a process, user and system; the clock ticks at 100 Hz. */
function processorSeconds(pid: number): number {
  try {
    const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]!.split(' ');
    return (Number(fields[11]) + Number(fields[12])) / 100;
  } catch {
    return 0;
  }
}

describe.skipIf(process.platform !== 'linux')('a network the size of ViT-B/16 (needs Linux)', () => {
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  it('is repaired in minutes and bounded memory', async () => {
    const file = path.join(folder, 'vit-b.onnx');
    writeModel(vitB16(), file);
    const opened = openModel(file);
    const pids = new Set<number>();
    const seconds = new Map<number, number>();
    const runtime = createRuntime({ threads: 2, onProcess: (pid) => pids.add(pid) });
    let peak = 0;
    const timer = setInterval(() => {
      let sum = residentBytes('self');
      for (const pid of pids) {
        sum += residentBytes(pid);
        seconds.set(pid, Math.max(seconds.get(pid) ?? 0, processorSeconds(pid)));
      }
      peak = Math.max(peak, sum);
    }, 200);
    const started = performance.now();
    const own = process.cpuUsage();
    const dataset = madeUpDataset(opened.model, opened.inputs, {});
    const result = await pruneModel(opened.model, {
      ratio: Number(process.env.SNUG_PRUNE_LARGE_RATIO ?? 0.5),
      method: 'repair',
      samples: { runtime, dataset, workDirectory: folder, maxSamples: 256 },
      onProgress: (done, total, item) =>
        console.log(`${((performance.now() - started) / 1000).toFixed(0)} s, ${done}/${total} ${item}`),
    });
    writeModel(result.model, path.join(folder, 'pruned.onnx'));
    clearInterval(timer);
    await runtime.close();
    const wall = (performance.now() - started) / 1000;
    const used = process.cpuUsage(own);
    const ours = (used.user + used.system) / 1e6;
    const theirs = [...seconds.values()].reduce((sum, value) => sum + value, 0);
    console.log(
      `${result.before.parameters} → ${result.after.parameters} parameters in ${wall.toFixed(0)} s; processors: ${ours.toFixed(0)} s algebra, ${theirs.toFixed(0)} s running; peak ${(peak / 1e9).toFixed(2)} GB`,
    );
    expect(peak).toBeLessThan(4e9);
    // On a computer that does nothing else: algebra takes one processor, running takes two.
    expect(ours + theirs / 2).toBeLessThan(300);
  });
});
