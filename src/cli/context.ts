import type { Command } from 'commander';
import { SnugError } from '../contract/errors.js';
import type { JobProgress, Provider } from '../contract/types.js';
import { providers } from '../contract/types.js';
import { createRuntime } from '../runtime/client.js';
import type { TrainingRuntime } from '../runtime/training-types.js';
import type { Runtime } from '../runtime/types.js';
import type { OpenedModel } from '../app/open.js';
import { formatBytes, parseDims, parseNumber, printable, wrapLines } from './format.js';

/** Work of the command line that no screen shows has phases of its own. */
export type CommandPhase = JobProgress['phase'] | 'running' | 'training';
export type CommandProgress = Omit<JobProgress, 'phase' | 'unit'> & {
  phase: CommandPhase;
  unit: JobProgress['unit'] | 'steps';
};

/** What every command gets: how to print, a runtime to use, and the signal of Ctrl+C. */
export interface CommandContext {
  json: boolean;
  runtime: Runtime & TrainingRuntime;
  signal: AbortSignal;
  /** The result: one JSON object with `--json`, else the text, which a function makes only when it is shown. */
  print(value: object, text: string | (() => string)): void;
  progress(progress: CommandProgress): void;
}

const phaseWords: Record<CommandPhase, string> = {
  reading: 'Reading',
  planning: 'Planning',
  pruning: 'Pruning',
  recovering: 'Training what is left',
  quantizing: 'Quantizing',
  writing: 'Writing',
  checking: 'Checking it runs',
  comparing: 'Comparing answers',
  running: 'Running',
  training: 'Training',
};

function progressLine({ phase, done, total, unit, item }: CommandProgress): string {
  const amount =
    total === null
      ? ''
      : unit === 'bytes'
        ? ` ${formatBytes(done)} of ${formatBytes(total)}`
        : ` ${done} of ${total} ${unit}`;
  return printable(`${phaseWords[phase]}${amount}${item ? ` (${item})` : ''}`);
}

/** Progress goes to stderr: one rewritten line on a terminal, one line per phase elsewhere. */
function progressPrinter(quiet: boolean): { show(progress: CommandProgress): void; clear(): void } {
  const terminal = process.stderr.isTTY === true;
  let last = '';
  let drawnAt = 0;
  return {
    show(progress) {
      if (quiet) return;
      if (!terminal) {
        const word =
          phaseWords[progress.phase] + (progress.item && progress.total === null ? ` (${progress.item})` : '');
        if (word !== last) process.stderr.write(`${printable(word)}\n`);
        last = word;
        return;
      }
      const now = Date.now();
      if (now - drawnAt < 80 && progress.done !== progress.total) return;
      drawnAt = now;
      last = progressLine(progress).slice(0, (process.stderr.columns ?? 80) - 1);
      process.stderr.write(`\r\x1b[2K${last}`);
    },
    clear() {
      if (terminal && last) process.stderr.write('\r\x1b[2K');
    },
  };
}

/**
 * Runs a command body with a runtime that is always closed, and with Ctrl+C as cancellation.
 * @param whenStopped what a stop leaves
 */
export async function withContext(
  command: Command,
  body: (context: CommandContext) => Promise<void>,
  whenStopped = 'Nothing was changed.',
): Promise<void> {
  const { json = false, quiet = false } = command.optsWithGlobals<{ json?: boolean; quiet?: boolean }>();
  const abort = new AbortController();
  const printer = progressPrinter(quiet);
  const stop = (): void => abort.abort();
  process.once('SIGINT', stop);
  process.once('SIGTERM', stop);
  const runtime = createRuntime({ signal: abort.signal });
  try {
    await body({
      json,
      runtime,
      signal: abort.signal,
      progress: (progress) => printer.show(progress),
      print(value, text) {
        printer.clear();
        const shown = json ? JSON.stringify(value, null, 2) : printable(typeof text === 'string' ? text : text());
        // Whoever reads a pipe wants whole lines.
        const wrapped = !json && process.stdout.isTTY ? wrapLines(shown, process.stdout.columns ?? 80) : shown;
        process.stdout.write(`${wrapped}\n`);
      },
    });
  } catch (error) {
    printer.clear();
    // Whatever broke off because of the stop, the stop is what happened.
    if (abort.signal.aborted) {
      throw new SnugError('E_CANCELLED', `Stopped. ${whenStopped}`);
    }
    throw error;
  } finally {
    process.off('SIGINT', stop);
    process.off('SIGTERM', stop);
    await runtime.close();
  }
}

/** `--provider`, checked. @throws SnugError `E_USAGE` */
export function parseProvider(text: string): Provider {
  const provider = providers.find((p) => p === text);
  if (provider) return provider;
  throw new SnugError('E_USAGE', `"${text}" is no execution provider.`, {
    action: `Use one of: ${providers.join(', ')}.`,
  });
}

export interface ShapeOptions {
  batch?: string;
  dim?: string[];
}

/**
 * `--batch` and `--dim`, checked against the dimensions that the model has; `--dim` of the batch is the batch.
 *
 * @throws SnugError `E_USAGE`
 */
export function parseShape(
  options: ShapeOptions,
  { summary }: OpenedModel,
): { batch: number | undefined; dims: Record<string, number> } {
  const { [summary.batchDimension ?? '']: named, ...dims } = parseDims(options.dim ?? []);
  for (const name of Object.keys(dims)) {
    if (summary.dimensions.includes(name)) continue;
    const known = summary.dimensions.join(', ');
    throw new SnugError('E_USAGE', `${summary.name} has no dimension "${name}".`, {
      action: known ? `It has: ${known}.` : 'All its dimensions are fixed.',
    });
  }
  const asked = options.batch ?? named?.toString();
  const batch = asked === undefined ? undefined : parseNumber(asked, '--batch', 1, 65536, true);
  if (named !== undefined && batch !== named) {
    throw new SnugError(
      'E_USAGE',
      `--batch ${batch} and --dim ${summary.batchDimension}=${named} contradict each other.`,
      {
        action: 'Give one of them.',
      },
    );
  }
  return { batch, dims };
}

/** The batch to work with: the model's own where the file fixes it. @throws SnugError `E_USAGE` when asked for another */
export function batchOf({ summary, inputs }: OpenedModel, asked: number | undefined): number {
  const first = inputs[0]?.dims[0];
  if (summary.batchDimension !== null || typeof first !== 'number' || first < 1) return asked ?? 1;
  if (asked === undefined || asked === first) return first;
  throw new SnugError('E_USAGE', `The batch of ${summary.name} is fixed at ${first} in the file.`, {
    action: 'Leave out --batch, or export the model with an open batch.',
  });
}

/** Collects a repeatable option. */
export function collect(value: string, previous: string[] = []): string[] {
  return [...previous, value];
}
