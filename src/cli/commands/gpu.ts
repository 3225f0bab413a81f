import type { Command } from 'commander';
import { calibrate } from '../../app/accuracy/calibrate.js';
import { deviceKey } from '../../app/accuracy/device.js';
import { defaultProvider, requireProvider } from '../../app/open.js';
import { SnugError } from '../../contract/errors.js';
import type { HardwareReading } from '../../contract/types.js';
import { budgetFor } from '../../hardware/budget.js';
import { readHardware } from '../../hardware/read.js';
import type { CommandContext } from '../context.js';
import { parseProvider, withContext } from '../context.js';
import { calibrationLine, machineRecord, summaryLine } from '../machine.js';
import { formatBytes, table } from '../format.js';

interface GpuOptions {
  calibrate?: boolean;
  provider?: string;
  clearRecord?: boolean;
}

/** Runs the small built-in graphs and keeps what they showed. */
async function calibrateHere(
  { runtime, progress }: CommandContext,
  reading: HardwareReading,
  named: string | undefined,
): Promise<void> {
  const provider = named ? parseProvider(named) : defaultProvider(reading, await runtime.providers());
  await requireProvider(runtime, provider);
  const result = await calibrate(runtime, provider, (done, total, item) =>
    progress({ phase: 'checking', done, total, unit: 'runs', item }),
  );
  await machineRecord().addCalibration({ ...deviceKey(reading, provider), ...result, at: Date.now() });
}

export function addGpu(program: Command): void {
  program
    .command('gpu')
    .description('show what memory there is, how much is free, and where each figure comes from')
    .option('--calibrate', 'run small test models to learn how exact estimates are on this device')
    .option('--provider <name>', 'with --calibrate: the execution provider (default: the best one here)')
    .option('--clear-record', 'forget what was predicted and measured on this machine')
    .action((options: GpuOptions, command: Command) =>
      withContext(command, async (context) => {
        const { runtime, print } = context;
        if (options.provider !== undefined && !options.calibrate) {
          throw new SnugError('E_USAGE', '--provider says what to calibrate.', { action: 'Add --calibrate.' });
        }
        const reading = await readHardware({ providers: await runtime.providers() });
        const record = machineRecord();
        if (options.clearRecord) await record.clearRuns();
        if (options.calibrate) await calibrateHere(context, reading, options.provider);
        const { calibrations, summary } = await record.view();
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
          { ...reading, calibrations, accuracy: summary },
          [
            table(['device', 'total', 'free', 'Snug may use', 'read from', 'providers'], rows, [1, 2, 3]),
            `Computer: ${reading.cpu.name}, ${reading.cpu.cores} cores, ${formatBytes(reading.ram.freeBytes)} of ${formatBytes(reading.ram.totalBytes)} memory free`,
            ...notes,
            ...calibrations.map(calibrationLine),
            ...(summary ? [summaryLine(summary)] : []),
          ].join('\n'),
        );
      }),
    );
}
