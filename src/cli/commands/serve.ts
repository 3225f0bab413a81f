import type { Command } from 'commander';
import { serveCommand } from '../../serve/command.js';
import { parseNumber } from '../format.js';

export function addServe(program: Command): void {
  program
    .command('serve')
    .description('open the app in a browser, on this computer only (for a remote machine: an SSH tunnel)')
    .option('--port <n>', 'port on 127.0.0.1; 0 picks a free one', '0')
    .option('--no-open', 'do not open the browser, only print the address')
    .action((options: { port: string; open: boolean }) =>
      serveCommand({ port: parseNumber(options.port, '--port', 0, 65535, true), open: options.open }),
    );
}
