import { Command, CommanderError } from 'commander';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { SnugError } from '../contract/errors.js';
import { addBatch } from './commands/batch.js';
import { addCompare } from './commands/compare.js';
import { addDemo } from './commands/demo.js';
import { addFit } from './commands/fit.js';
import { addGpu } from './commands/gpu.js';
import { addInspect } from './commands/inspect.js';
import { addMemory } from './commands/memory.js';
import { addPrune } from './commands/prune.js';
import { addQuantize } from './commands/quantize.js';
import { addServe } from './commands/serve.js';
import { addTrain } from './commands/train.js';
import { printable } from './format.js';
import { NothingFits } from './outcome.js';

function version(): string {
  const here = path.dirname(fileURLToPath(import.meta.url));
  for (const up of ['..', '../..']) {
    try {
      const { name, version } = JSON.parse(readFileSync(path.join(here, up, 'package.json'), 'utf8')) as {
        name: string;
        version: string;
      };
      if (name === 'snug') return version;
    } catch {
      // Not there: one folder further up.
    }
  }
  return 'unknown';
}

function reportError(error: unknown, json: boolean): number {
  const failure = SnugError.from(error);
  const report = failure.toReport();
  if (json) process.stdout.write(`${JSON.stringify({ error: report }, null, 2)}\n`);
  process.stderr.write(`snug: ${failure.code}: ${printable(failure.message)}\n`);
  if (failure.action) process.stderr.write(`      ${printable(failure.action)}\n`);
  if (process.env.SNUG_DETAILS && failure.details) process.stderr.write(`${printable(failure.details)}\n`);
  return failure.code === 'E_USAGE' ? 2 : 1;
}

/**
 * The `snug` command.
 *
 * @param argv as in `process.argv`
 * @returns exit code: 0 done · 1 failed · 2 wrong usage · 3 nothing fits
 */
export async function main(argv: string[]): Promise<number> {
  const program = new Command('snug')
    .description('Fits a neural network (ONNX) to the memory there is: prunes, quantizes and picks the batch.')
    .version(version())
    .option('--json', 'print one JSON object on stdout')
    .option('-q, --quiet', 'no progress on stderr')
    // The list of commands is told without their common options, narrow enough for 80 columns.
    .configureHelp({
      minWidthToWrap: 30,
      subcommandTerm: (one) =>
        [one.name(), ...one.registeredArguments.map((a) => (a.required ? `<${a.name()}>` : `[${a.name()}]`))].join(' '),
    })
    .showHelpAfterError('(add --help for the options)')
    .exitOverride();
  for (const add of [
    addGpu,
    addInspect,
    addMemory,
    addPrune,
    addQuantize,
    addBatch,
    addTrain,
    addFit,
    addCompare,
    addServe,
    addDemo,
  ])
    add(program);
  for (const command of program.commands) {
    // Words and numbers stand without quotes, as they are typed.
    for (const option of command.options) {
      if (typeof option.defaultValue === 'string') option.defaultValueDescription ??= option.defaultValue;
    }
    command
      .exitOverride()
      .option('--json', 'print one JSON object on stdout')
      .option('-q, --quiet', 'no progress on stderr');
  }
  try {
    await program.parseAsync(argv);
    return 0;
  } catch (error) {
    if (error instanceof NothingFits) return 3;
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
    return reportError(error, argv.includes('--json'));
  }
}
