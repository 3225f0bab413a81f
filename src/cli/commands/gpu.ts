import type { Command } from 'commander';
import { budgetFor } from '../../hardware/budget.js';
import { readHardware } from '../../hardware/read.js';
import { withContext } from '../context.js';
import { formatBytes, table } from '../format.js';

export function addGpu(program: Command): void {
  program
    .command('gpu')
    .description('show what memory there is, how much is free, and where each figure comes from')
    .action((_options: object, command: Command) =>
      withContext(command, async ({ runtime, print }) => {
        const reading = await readHardware({ providers: await runtime.providers() });
        const rows = reading.gpus.map((gpu) => [
          gpu.name,
          formatBytes(gpu.totalBytes),
          formatBytes(gpu.freeBytes),
          formatBytes(budgetFor(gpu)),
          `${gpu.source} (${gpu.confidence})`,
          gpu.providers.join(', ') || '–',
        ]);
        const notes = reading.gpus.flatMap((gpu) => gpu.notes.map((note) => `${gpu.name}: ${note}`));
        print(
          reading,
          [
            table(['device', 'total', 'free', 'Snug may use', 'read from', 'providers'], rows, [1, 2, 3]),
            `Computer: ${reading.cpu.name}, ${reading.cpu.cores} cores, ${formatBytes(reading.ram.freeBytes)} of ${formatBytes(reading.ram.totalBytes)} memory free`,
            ...notes,
          ].join('\n'),
        );
      }),
    );
}
