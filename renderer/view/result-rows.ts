import type { FitReport } from '../../src/contract/types.js';
import type { BarRow } from '../components/memory-bar.js';
import type { Messages } from '../i18n/locale.svelte.js';
import { estimateRow } from './plan-rows.js';

/** Before, predicted, measured: three rows on one scale. */
export function resultRows(report: FitReport, t: Messages): BarRow[] {
  const before = estimateRow('before', t.bar.before, report.before.estimate, 'side');
  const measuredBefore = report.before.measured;
  const rows: BarRow[] = [
    measuredBefore === null
      ? before
      : { ...before, parts: scaled(before, measuredBefore.peakBytes), totalBytes: measuredBefore.peakBytes },
  ];
  const predicted = estimateRow('predicted', t.bar.predicted, report.predicted, 'side');
  if (report.measured === null) return [...rows, { ...predicted, weight: 'main' }];
  return [
    ...rows,
    predicted,
    {
      ...predicted,
      key: 'measured',
      name: t.bar.measured,
      parts: scaled(predicted, report.measured.peakBytes),
      totalBytes: report.measured.peakBytes,
      weight: 'main',
    },
  ];
}

/** A measurement is one number; its parts are shown in the proportions of the estimate. */
function scaled(row: BarRow, totalBytes: number): BarRow['parts'] {
  const sum = (row.parts ?? []).reduce((all, part) => all + part.bytes, 0);
  if (sum === 0) return null;
  return (row.parts ?? []).map((part) => ({ ...part, bytes: (part.bytes / sum) * totalBytes }));
}
