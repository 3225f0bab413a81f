import type { Dtype, Estimate, FitReport, Measurement, Plan } from '../../contract/types.js';
import type { DeviceKey, NewRun } from './store.js';

/** The number format of most of a plan's weight bytes. */
function mainDtype({ weights }: Pick<Plan, 'weights'>): Dtype {
  const bytes = new Map<Dtype, number>();
  for (const weight of weights) bytes.set(weight.dtype, (bytes.get(weight.dtype) ?? 0) + weight.bytesBefore);
  return [...bytes].sort((a, b) => b[1] - a[1])[0]?.[0] ?? 'fp32';
}

/** One measurement beside its estimate, for the record. */
export function runOf(
  model: string,
  dtype: Dtype,
  estimate: Estimate,
  measured: Measurement,
  { device }: Pick<DeviceKey, 'device'>,
  at: number,
): NewRun {
  const { provider, batch, peakBytes: measuredBytes } = measured;
  return { model, provider, batch, dtype, predictedBytes: estimate.peakBytes, measuredBytes, at, device };
}

/** What a fit adds to the record: its result and, where it could be run at the same batch, the original. */
export function runsOfReport(report: FitReport, key: Pick<DeviceKey, 'device'>, at: number): NewRun[] {
  const { model, before, measured, predicted, plan } = report;
  const runs: NewRun[] = [];
  if (measured) runs.push(runOf(model.name, mainDtype(plan), predicted, measured, key, at));
  if (before.measured && before.measured.batch === before.estimate.batch) {
    runs.push(runOf(model.name, 'fp32', before.estimate, before.measured, key, at));
  }
  return runs;
}
