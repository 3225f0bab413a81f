import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';

export interface CliResult {
  code: number | null;
  stdout: string;
  stderr: string;
}

export const root = path.resolve(import.meta.dirname ?? '.', '../..');

/** What the tests run is no record of this computer. */
const settings = mkdtempSync(path.join(tmpdir(), 'snug-cli-settings-'));
process.once('exit', () => rmSync(settings, { recursive: true, force: true }));

/** Starts the real command line (built by the test set-up). */
export function startSnug(args: string[], env: Record<string, string> = {}, cwd = root) {
  const child = spawn(process.execPath, [path.join(root, 'src/cli/snug.js'), ...args], {
    env: { ...process.env, SNUG_SKIP_BUILD: '1', SNUG_SETTINGS_DIR: settings, ...env },
    cwd,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const result: CliResult = { code: null, stdout: '', stderr: '' };
  child.stdout.setEncoding('utf8').on('data', (text: string) => (result.stdout += text));
  child.stderr.setEncoding('utf8').on('data', (text: string) => (result.stderr += text));
  const finished = new Promise<CliResult>((resolve) => child.on('close', (code) => resolve({ ...result, code })));
  return { child, finished, output: result };
}

export function snug(args: string[], env?: Record<string, string>): Promise<CliResult> {
  return startSnug(args, env).finished;
}
