/**
 * `npm run bench:sweep`: every number format of every model on every execution provider that runs here. Each is
 * quantized as `snug quantize` does it, loaded, run and held against the original's answers. A format may be refused
 * in advance, with a reason; what is written has to load, run and answer.
 *
 * SWEEP_MODELS names a folder of models (default ../shared/models; `net.npy` beside `net.ts.onnx` holds its samples);
 * generated graphs are added. SWEEP_ONLY=mbv2,graph: limits the models by the start of their names, SWEEP_FORMATS and
 * SWEEP_PROVIDERS limit the rest. Rows go to SWEEP_STATE (default a temporary file) as they come, and models that are
 * whole there are not run again.
 */
import { appendFileSync, existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { openModel } from '../../src/app/open.js';
import { dtypes, type Provider } from '../../src/contract/types.js';
import { createRuntime } from '../../src/runtime/client.js';
import type { Feeds } from '../../src/runtime/types.js';
import {
  answersOf,
  compareAnswers,
  sweepOne,
  type Format,
  type Original,
  type SweepJob,
  type SweepRow,
} from './sweep/check.js';
import { samplesOf, smallDims, subjects } from './sweep/subjects.js';

const folder = mkdtempSync(path.join(tmpdir(), 'snug-sweep-'));
const state = process.env.SWEEP_STATE ?? path.join(folder, 'rows.jsonl');
const wanted = (variable: string): readonly string[] => process.env[variable]?.split(',') ?? [];
const chosen = <T extends string>(variable: string, all: readonly T[]): T[] =>
  all.filter((one) => wanted(variable).length === 0 || wanted(variable).includes(one));

const runtime = createRuntime();
const providers = chosen<Provider>('SWEEP_PROVIDERS', await runtime.providers());
const formats = chosen(
  'SWEEP_FORMATS',
  dtypes.filter((dtype): dtype is Format => dtype !== 'fp32'),
);
const models = subjects(path.resolve(process.env.SWEEP_MODELS ?? '../shared/models')).filter(
  ({ name }) => wanted('SWEEP_ONLY').length === 0 || wanted('SWEEP_ONLY').some((start) => name.startsWith(start)),
);

const rows: SweepRow[] = existsSync(state)
  ? readFileSync(state, 'utf8')
      .trim()
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => JSON.parse(line) as SweepRow)
  : [];
const done = (model: string, format: Format, provider: Provider): boolean =>
  rows.some((row) => row.model === model && row.format === format && row.provider === provider);

/** What the original answers, and what it leaves to the CPU on each provider. */
async function originalOf(name: string, file: string, feeds: Feeds): Promise<Original> {
  const original: Original = { answers: await answersOf(runtime, file, 'cpu', feeds), fallbacks: { cpu: [] } };
  for (const provider of providers.filter((one) => one !== 'cpu')) {
    try {
      const db = compareAnswers(original.answers, await answersOf(runtime, file, provider, feeds));
      const measured = await runtime.measure({ modelPath: file, provider }, feeds, { warmRuns: 0, batch: 1 });
      original.fallbacks[provider] = measured.fallbacks.map(({ operator }) => operator);
      if (db < 40) console.log(`${name}: the original itself keeps ${db.toFixed(1)} dB on ${provider}`);
    } catch (error) {
      original.fallbacks[provider] = null;
      console.log(`${name}: the original itself does not run on ${provider}: ${String(error).slice(0, 200)}`);
    }
  }
  return original;
}

const shown = (row: SweepRow): string =>
  [
    ...[row.model, row.provider, row.format, row.outcome, row.db === null ? '–' : `${row.db.toFixed(1)} dB`],
    row.bytesAfter === null ? '–' : `${(row.bytesBefore / row.bytesAfter).toFixed(2)}×`,
    Object.entries(row.placement)
      .map(([provider, nodes]) => `${provider.replace('ExecutionProvider', '')} ${nodes}`)
      .join(' '),
    row.fallbacks.length === 0 ? '' : `to the CPU: ${[...new Set(row.fallbacks)].join(', ')}`,
    row.problem,
  ].join(' | ');

describe('every format on every provider', () => {
  afterAll(async () => {
    await runtime.close();
    rmSync(folder, { recursive: true, force: true });
    console.log('\nmodel | provider | format | outcome | answers | shrink | nodes | new on the CPU | problem');
    for (const row of rows) console.log(shown(row));
    console.log('\nprovider | format | passed | refused | failed');
    for (const provider of providers) {
      for (const format of formats) {
        const own = rows.filter((row) => row.provider === provider && row.format === format);
        const count = (outcome: SweepRow['outcome']): number => own.filter((row) => row.outcome === outcome).length;
        console.log([provider, format, count('passed'), count('refused'), count('failed')].join(' | '));
      }
    }
    const refusals = rows.filter(({ outcome }) => outcome === 'refused').map((row) => row.problem);
    console.log(`\nreasons of refusals:\n${[...new Set(refusals)].join('\n')}`);
    const reasons = rows.flatMap((row) => Object.keys(row.kept).map((why) => `${row.provider} ${row.format} → ${why}`));
    console.log(`\nreasons why weights keep another format:\n${[...new Set(reasons)].sort().join('\n')}`);
  });

  for (const subject of models) {
    it(subject.name, async () => {
      const left = formats.flatMap((format) => providers.map((provider) => ({ format, provider })));
      const open = left.filter(({ format, provider }) => !done(subject.name, format, provider));
      if (open.length === 0) return;
      const opened = openModel(subject.file(folder));
      const dims = smallDims(opened);
      const dataset = await samplesOf(opened, dims);
      const feeds = await dataset.feeds(0, Math.max(1, dataset.fixedBatch ?? 1));
      const original = await originalOf(subject.name, opened.path, feeds);
      const seen: SweepJob['seen'] = new Map();
      for (const { format, provider } of open) {
        const target = path.join(folder, 'result.onnx');
        const job = { name: subject.name, opened, dataset, dims, feeds, original, format, provider, target, seen };
        const row = await sweepOne(runtime, job);
        rows.push(row);
        appendFileSync(state, `${JSON.stringify(row)}\n`);
        console.log(shown(row));
      }
      await dataset.close();
      const failed = rows.filter((row) => row.model === subject.name && row.outcome === 'failed');
      expect(failed.map(shown)).toEqual([]);
    });
  }
});
