/**
 * `npm run bench:quantize`: Snug beside onnxruntime's Python quantizers in one run on the same inputs. For each model
 * and method: bytes, time, peak memory of the tool, and what the answers lost on held-out samples, judged by
 * onnxruntime-node; whether the file loads, runs and agrees on the CPU and on WebGPU.
 *
 * SNUG_PYTHON names a Python with onnx, onnxruntime (and torch for HQQ); without it only Snug's rows are printed.
 * BENCH_ONLY=vit-b,kjv-gpt and BENCH_METHODS=int4,gptq limit the run; BENCH_LAYERS=12 gives the large transformers all
 * their blocks (default 3); BENCH_WEBGPU=0 leaves WebGPU out. BENCH_ROWS names a file that collects the rows of runs
 * in parts: the tables at the end are then of all of them.
 */
import { copyFileSync, existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { writeModel } from '../../src/onnx/write.js';
import { createRuntime } from '../../src/runtime/client.js';
import { matMulChain } from '../cli/models.js';
import { cases, writeFeeds, type Case } from './quantize/cases.js';
import { Judge } from './quantize/judge.js';
import { losses, table, type Row } from './quantize/table.js';
import { hasPeers, runPeer, runSnug, type ToolRun } from './quantize/tools.js';
import { floors, type Format } from './sweep/check.js';

const chosen = (variable: string, all: readonly string[]): readonly string[] => {
  const wanted = process.env[variable]?.split(',');
  return wanted === undefined ? all : all.filter((name) => wanted.includes(name));
};

/** Blocks of the 4-bit and 8-bit weight formats, alike for all tools. */
const block = Number(process.env.BENCH_BLOCK ?? 32);
const calibrationSamples = 100;

/** Arguments of `snug quantize` for a format; `calibrated` adds the samples. */
const own: Record<string, { dtype: Format; args?: string[]; calibrated: boolean }> = {
  'snug int8': { dtype: 'int8', calibrated: false },
  'snug int8-dynamic': { dtype: 'int8-dynamic', calibrated: false },
  'snug int8-static': { dtype: 'int8-static', calibrated: true },
  'snug int4': { dtype: 'int4', calibrated: false },
  'snug int4 uniform': { dtype: 'int4', args: ['--uniform'], calibrated: false },
  'snug int4 nearest': { dtype: 'int4', args: ['--rounding', 'nearest'], calibrated: false },
  'snug int4 +samples': { dtype: 'int4', calibrated: true },
  'snug int4 +samples uniform': { dtype: 'int4', args: ['--uniform'], calibrated: true },
};
const peers = [
  ...['dynamic', 'static', 'default-8bit', 'default-sym', 'default-asym', 'default-sym-gather', 'default-asym-gather'],
  ...['rtn', 'hqq', 'k-quant', 'gptq'],
];

const folder = mkdtempSync(path.join(process.env.SNUG_BENCH_DIR ?? tmpdir(), 'snug-bench-'));
const python = hasPeers();
const methods = chosen('BENCH_METHODS', [...Object.keys(own), ...(python ? peers : [])]);
const runtime = createRuntime();
const collected = process.env.BENCH_ROWS;
/** Figures that do not exist are null in the file. */
const all: Row[] =
  collected !== undefined && existsSync(collected)
    ? (JSON.parse(readFileSync(collected, 'utf8')) as Row[]).map((row) => ({ ...row, bytes: row.bytes ?? NaN }))
    : [];

async function judged(subject: Case, judge: Judge, method: string, run: ToolRun, target: string): Promise<Row> {
  const row: Row = {
    ...{ model: subject.name, method, own: method in own, fileBytes: statSync(subject.file).size },
    ...{ run: { seconds: run.seconds, cpuSeconds: run.cpuSeconds, peakBytes: run.peakBytes }, bytes: NaN },
    ...{ sqnrDb: null, klNats: null, top1: null, score: '–' },
    ...{ cpu: run.ok ? 'yes' : `n/a: ${run.error.slice(0, 90)}`, webgpu: '–' },
  };
  if (!run.ok || !existsSync(target)) return row;
  row.bytes = statSync(target).size + (existsSync(`${target}.data`) ? statSync(`${target}.data`).size : 0);
  try {
    const quality = await judge.compare(target);
    row.sqnrDb = quality.sqnrDb;
    row.klNats = quality.klNats;
    row.top1 = quality.top1Agreement;
    if (subject.score !== null) row.score = await subject.score(target);
  } catch (error) {
    row.cpu = `no: ${String(error).slice(0, 90)}`;
  }
  if (process.env.BENCH_WEBGPU !== '0') {
    try {
      const agreement = await judge.agreement(target, 'webgpu');
      row.webgpu = agreement > 25 ? 'yes' : `wrong, ${agreement.toFixed(1)} dB from the CPU`;
    } catch (error) {
      row.webgpu = `no: ${String(error).slice(0, 60)}`;
    }
  }
  return row;
}

const shown = ([seconds, processor]: readonly number[]): string =>
  `${seconds!.toFixed(2)} s (${processor!.toFixed(2)} s)`;

describe('quantizers side by side', () => {
  let starts = { snug: [0, 0], python: [0, 0] };
  beforeAll(async () => {
    const tiny = path.join(folder, 'tiny.onnx');
    writeModel(matMulChain(2, 64), tiny);
    const target = path.join(folder, 'tiny4.onnx');
    const snug = await runSnug(tiny, target, ['--dtype', 'int4']);
    expect(snug.error).toBe('');
    const peer = python ? await runPeer('default-sym', tiny, target, '', block) : null;
    starts = {
      snug: [snug.seconds, snug.cpuSeconds],
      python: [peer?.seconds ?? 0, peer?.cpuSeconds ?? 0],
    };
  });
  afterAll(async () => {
    await runtime.close();
    rmSync(folder, { recursive: true, force: true });
    console.log(
      python
        ? `start of the tools, left out of "seconds" and "processor s": Snug ${shown(starts.snug)}, Python ${shown(starts.python)}`
        : 'Python with onnx and onnxruntime was not found (SNUG_PYTHON): only Snug is shown.',
    );
    console.log(`\n${table(all)}`);
    const behind = losses(all);
    console.log(`\nBehind a Python tool at as few or fewer bytes: ${behind.length === 0 ? 'nowhere' : ''}`);
    for (const one of behind) console.log(one);
  });

  for (const name of chosen('BENCH_ONLY', Object.keys(cases))) {
    it(name, async () => {
      const subject = cases[name]!(folder);
      const feeds = python ? await writeFeeds(subject, folder, calibrationSamples) : '';
      const alone = path.join(folder, `${name}-copy.onnx`);
      if (subject.alone === true) copyFileSync(subject.file, alone);
      const given = subject.alone === true ? alone : subject.file;
      const judge = await Judge.of(runtime, subject);
      const rows: Row[] = [];
      for (const method of methods) {
        const target = path.join(folder, 'result.onnx');
        rmSync(target, { force: true });
        rmSync(`${target}.data`, { force: true });
        const mine = own[method];
        const dims = Object.entries(subject.dims).flatMap(([dim, size]) => ['--dim', `${dim}=${size}`]);
        const run = mine
          ? await runSnug(subject.file, target, [
              ...['--dtype', mine.dtype],
              ...(mine.args ?? []),
              ...(mine.calibrated ? ['--calibrate', subject.calibration, ...dims] : []),
            ])
          : await runPeer(method, given, target, feeds, block);
        const [seconds, cpuSeconds] = mine ? starts.snug : starts.python;
        run.seconds -= seconds!;
        run.cpuSeconds -= cpuSeconds!;
        const row = await judged(subject, judge, method, run, target);
        rows.push(row);
        const before = all.findIndex((one) => one.model === name && one.method === method);
        all.splice(before < 0 ? all.length : before, before < 0 ? 0 : 1, row);
        if (collected !== undefined) writeFileSync(collected, JSON.stringify(all));
      }
      const float = subject.score === null ? '' : `, float model ${await subject.score(subject.file)}`;
      const before = statSync(subject.file).size;
      console.log(`\n${name}, ${(before / 1e6).toFixed(2)} MB${float}\n${table(rows)}`);
      for (const row of rows.filter((one) => one.own)) {
        expect(row.cpu, row.method).toBe('yes');
        // A dash: not tried.
        expect(['yes', '–'], row.method).toContain(row.webgpu);
        expect(row.sqnrDb, row.method).toBeGreaterThan(floors[own[row.method]!.dtype]);
      }
    });
  }
});
