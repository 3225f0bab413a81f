import type { Command } from 'commander';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { bundledSamples } from '../../app/samples.js';
import { SnugError } from '../../contract/errors.js';
import { withContext } from '../context.js';
import { runFit } from './fit.js';

export function addDemo(program: Command): void {
  program
    .command('demo')
    .description('fit the bundled sample into half of the memory it needs, and print the report')
    .action((_options: object, command: Command) =>
      withContext(command, async (context) => {
        const [sample] = bundledSamples();
        if (!sample?.dataPath)
          throw new SnugError('E_NOT_FOUND', 'The bundled sample is missing from this installation.');
        const folder = mkdtempSync(path.join(tmpdir(), 'snug-demo-'));
        try {
          await runFit(context, sample.modelPath, {
            out: path.join(folder, 'digits-mlp.snug.onnx'),
            budget: '400kB',
            batch: '32',
            calibrate: sample.dataPath,
            provider: 'cpu',
          });
        } finally {
          rmSync(folder, { recursive: true, force: true });
        }
      }),
    );
}
