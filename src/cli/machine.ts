import { deviceKey } from '../app/accuracy/device.js';
import { openAccuracy, type AccuracyStore, type DeviceKey } from '../app/accuracy/store.js';
import { settingsDirectory } from '../app/door/settings.js';
import type { AccuracySummary, Calibration, Estimate, KnownError, Provider } from '../contract/types.js';
import { readHardware } from '../hardware/read.js';
import type { Runtime } from '../runtime/types.js';
import { formatBytes } from './format.js';

/** The record of predictions of this computer; the app keeps the same one. */
export function machineRecord(): AccuracyStore {
  return openAccuracy(settingsDirectory());
}

/** The device a provider runs on here, as the record names it. */
export async function deviceHere(runtime: Runtime, provider: Provider): Promise<DeviceKey> {
  return deviceKey(await readHardware({ providers: await runtime.providers() }), provider);
}

/** What the record says about estimates of a provider; the hardware is read only if there is a record. */
export async function knownHere(
  record: AccuracyStore,
  runtime: Runtime,
  provider: Provider,
): Promise<KnownError | null> {
  const { runs, calibrations } = await record.view();
  const speaks = [...runs, ...calibrations].some((one) => one.provider === provider);
  return speaks ? record.known(await deviceHere(runtime, provider)) : null;
}

const off = (percent: number): string => `${percent.toFixed(percent > 0 && percent < 9.95 ? 1 : 0)} %`;

export function summaryLine({ runs, medianPercent, worstPercent }: AccuracySummary): string {
  return runs === 1
    ? `On this machine: 1 run, off by ${off(worstPercent)}.`
    : `On this machine: ${runs} runs, median error ${off(medianPercent)}, worst ${off(worstPercent)}.`;
}

export function calibrationLine({ device, provider, percent, at, probes }: Calibration): string {
  const day = new Date(at).toISOString().slice(0, 10);
  return `Calibrated ${device} (${provider}) on ${day}: estimates within ${off(percent)}, by ${probes.length} test models.`;
}

/** How sure an estimate is, and why. */
export function intervalLine({ lowBytes, highBytes, interval, unknown }: Estimate): string {
  if (unknown.length > 0) {
    const sizes = unknown.length === 1 ? 'The size of 1 tensor is' : `The sizes of ${unknown.length} tensors are`;
    return `${sizes} unknown and not counted: it may need more.`;
  }
  const range = `Sure of ${formatBytes(lowBytes)} to ${formatBytes(highBytes)}`;
  const runs = interval?.runs ?? 0;
  switch (interval?.source ?? 'rule') {
    case 'rule':
      return `${range}: a general rule, not yet tested on this device (snug gpu --calibrate).`;
    case 'calibration':
      return `${range}: learned from ${runs} test models on this device.`;
    case 'record':
      return `${range}: as far as ${runs} ${runs === 1 ? 'run' : 'runs'} on this machine have been off.`;
  }
}
