/** One model in one format at one shape: predicted beside measured. */
export interface Row {
  model: string;
  dtype: string;
  batch: number;
  dims: Record<string, number>;
  /** Peak bytes measured while loading, in the first run, in later runs and over all. */
  measured: { load: number; cold: number; warm: number; peak: number };
  /** Predicted over measured, minus one. */
  error: { load: number; cold: number; warm: number; peak: number };
  /** Whether the later runs' measured peak is only known as a range (the error is the distance to that range). */
  warmIsRange: boolean;
  /** Nodes that ran, and those whose outputs had the predicted shape. */
  nodes: number;
  equalShapes: number;
  /** Values whose size was not predicted. */
  unknown: number;
  /** Milliseconds to make the model ready and estimate it once, and to estimate one more batch. */
  prepareMs: number;
  newBatchMs: number;
}

const percent = (value: number): string => `${(value * 100).toFixed(2)} %`;
const megabytes = (bytes: number): string => (bytes / 1e6).toFixed(1);

/** Error of a prediction against a range of what was measured. */
export function distance(predicted: number, { low, high }: { low: number; high: number }): number {
  const nearest = Math.min(Math.max(predicted, low), high);
  return predicted / nearest - 1;
}

export function tableOf(rows: readonly Row[]): string {
  const head = 'model | format | shape | load MB | error | first run MB | error | later runs MB | error | shapes | ms';
  const lines = rows.map((row) => {
    const sizes = Object.entries(row.dims).map(([name, size]) => `${name}=${size}`);
    return [
      row.model,
      row.dtype,
      [`batch=${row.batch}`, ...sizes].join(' '),
      megabytes(row.measured.load),
      percent(row.error.load),
      megabytes(row.measured.cold),
      percent(row.error.cold),
      `${row.warmIsRange ? '≥ ' : ''}${megabytes(row.measured.warm)}`,
      percent(row.error.warm),
      `${row.equalShapes}/${row.nodes}`,
      `${row.prepareMs.toFixed(0)} + ${row.newBatchMs.toFixed(1)}`,
    ].join(' | ');
  });
  return [head, ...lines].join('\n');
}

function quantile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? 0;
}

/** Shares of cases within the limits asked for, largest and middle errors, shapes, times. */
export function summaryOf(rows: readonly Row[]): string {
  const lines = (['load', 'cold', 'warm', 'peak'] as const).map((phase) => {
    const errors = rows.map((row) => Math.abs(row.error[phase]));
    const within = (limit: number) => percent(errors.filter((error) => error <= limit).length / errors.length);
    const worst = rows[errors.indexOf(Math.max(...errors))];
    return (
      `${phase}: ≤ 1 % in ${within(0.01)} of cases, ≤ 5 % in ${within(0.05)}, ≤ 10 % in ${within(0.1)}; ` +
      `median ${percent(quantile(errors, 0.5))}, largest ${percent(Math.max(...errors))} (${worst?.model} ${worst?.dtype} batch ${worst?.batch})`
    );
  });
  const nodes = rows.reduce((sum, row) => sum + row.nodes, 0);
  const equal = rows.reduce((sum, row) => sum + row.equalShapes, 0);
  const slowest = (key: 'prepareMs' | 'newBatchMs') => Math.max(...rows.map((row) => row[key])).toFixed(0);
  return [
    `${rows.length} cases; later runs are known only as a range in ${rows.filter((row) => row.warmIsRange).length}`,
    ...lines,
    `shapes: ${equal} of ${nodes} node outputs as predicted (${percent(equal / nodes)})`,
    `prepare and estimate: at most ${slowest('prepareMs')} ms; another batch: at most ${slowest('newBatchMs')} ms`,
  ].join('\n');
}
