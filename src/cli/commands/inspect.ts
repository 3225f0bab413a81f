import type { Command } from 'commander';
import { openModel } from '../../app/open.js';
import type { ValueSummary } from '../../contract/types.js';
import { withContext } from '../context.js';
import { formatBytes, table } from '../format.js';

function values(list: ValueSummary[]): string[][] {
  const shape = ({ dims, anyShape }: ValueSummary): string =>
    anyShape ? 'not known' : dims.map((dim) => dim ?? '?').join(' × ');
  const shown = list.slice(0, 12).map((v) => [v.name, v.dtype, shape(v)]);
  return list.length > 12 ? [...shown, [`… ${list.length - 12} more`, '', '']] : shown;
}

export function addInspect(program: Command): void {
  program
    .command('inspect')
    .argument('<model>', '.onnx file, or a folder with one')
    .description('show what is in a model file, without loading its weights')
    .action((target: string, _options: object, command: Command) =>
      withContext(command, async ({ print }) => {
        const { summary } = openModel(target, { allowUnknownOperators: true });
        const operators = Object.entries(summary.operators).sort((a, b) => b[1] - a[1]);
        print(
          summary,
          [
            `${summary.name}: ${summary.kind}, ${(summary.parameters / 1e6).toFixed(2)} M parameters, ${formatBytes(summary.weightBytes)} of weights, file ${formatBytes(summary.fileBytes)}`,
            `opset ${Object.entries(summary.opset)
              .map(([domain, v]) => `${domain || 'ai.onnx'} ${v}`)
              .join(', ')}, IR ${summary.irVersion}, made by ${summary.producer || 'unknown'}`,
            summary.dimensions.length > 0
              ? `open dimensions: ${summary.dimensions.join(', ')} (batch: ${summary.batchDimension ?? 'fixed'})`
              : summary.inputs.some(({ anyShape }) => anyShape)
                ? 'the shape of an input is not known'
                : 'all dimensions are fixed',
            '',
            table(['input', 'type', 'shape'], values(summary.inputs)),
            '',
            table(['output', 'type', 'shape'], values(summary.outputs)),
            '',
            table(
              ['operator', 'nodes'],
              operators.map(([name, count]) => [name, String(count)]),
              [1],
            ),
            ...summary.warnings.map((w) => `Note: ${w}`),
          ].join('\n'),
        );
      }),
    );
}
