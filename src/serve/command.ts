import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { calibratesByItself } from '../app/accuracy/calibrator.js';
import { openAccuracy } from '../app/accuracy/store.js';
import { settingsDirectory } from '../app/door/settings.js';
import { createEngineService } from '../app/service.js';
import { TrainingStore } from '../app/training-store.js';
import { SnugError } from '../contract/errors.js';
import { startServer } from './server.js';

export interface ServeCommandOptions {
  /** 0: any free port. */
  port: number;
  /** Whether to open the default browser. */
  open: boolean;
}

/**
 * `snug serve`: starts the browser door, prints its address in one line on stdout and runs until SIGINT or
 * SIGTERM, or until stdin's terminal is closed. Pressing Enter prints a fresh address.
 *
 * @throws SnugError as {@link startServer}
 */
export async function serveCommand(options: ServeCommandOptions): Promise<void> {
  const service = createEngineService({
    accuracy: openAccuracy(settingsDirectory()),
    trainings: new TrainingStore(settingsDirectory()),
    autoCalibrate: calibratesByItself(),
  });
  const server = await startServer({ service, port: options.port, staticDir: pageDirectory() });
  process.stdout.write(`Snug is at ${server.url}\n`);
  if (options.open) openBrowser(server.url);
  if (process.stdin.isTTY) {
    process.stderr.write('Press Enter for a new link, Ctrl+C to stop.\n');
    process.stdin.on('data', () => process.stdout.write(`Snug is at ${server.newUrl()}\n`));
  }
  await new Promise<void>((resolve) => {
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, () => resolve());
  });
  process.stdin.pause();
  await server.close();
}

/** The built page: beside the built code, or in the project's `out/` when run from source. */
function pageDirectory(): string {
  const here = path.dirname(fileURLToPath(import.meta.url));
  const places = [here, path.dirname(here), path.resolve(here, '../../out')].map((place) =>
    path.join(place, 'renderer'),
  );
  const found = places.find((place) => existsSync(path.join(place, 'index.html')));
  if (found !== undefined) return found;
  throw new SnugError('E_NOT_FOUND', 'The built page of Snug is missing.', {
    action: 'Run "npm run build" in the project folder.',
  });
}

/** Asks the system to show the address. Failing is no error: the address was printed. */
function openBrowser(url: string): void {
  const commands: Partial<Record<NodeJS.Platform, [string, string[]]>> = {
    darwin: ['open', [url]],
    // `start` is part of cmd.exe; its first quoted argument is the window title.
    win32: ['cmd.exe', ['/c', 'start', '', url]],
  };
  const [command, args] = commands[process.platform] ?? ['xdg-open', [url]];
  try {
    const child = spawn(command, args, { stdio: 'ignore', detached: true });
    child.on('error', () => undefined);
    child.unref();
  } catch {
    // The address is on the screen already.
  }
}
