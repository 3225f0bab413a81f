import type { SnugApi } from '../../src/contract/api.js';
import type { ErrorReport } from '../../src/contract/errors.js';
import type { AccuracyView, Calibration, GpuReading, Provider } from '../../src/contract/types.js';
import { i18n } from '../i18n/locale.svelte.js';
import { announcer } from './announcer.svelte.js';

/** The record of predictions on this machine, and the calibrations of its devices. */
export class AccuracyStore {
  readonly #api: SnugApi;
  view: AccuracyView | null = $state.raw(null);
  /** Why the last calibration asked for here did not finish. */
  error: ErrorReport | null = $state.raw(null);

  constructor(api: SnugApi) {
    this.#api = api;
  }

  async load(): Promise<void> {
    const reply = await this.#api.accuracy();
    if (reply.ok) this.view = reply.value;
  }

  /** The newest calibration of a device: by its name, or by the processor's where the processor does the work. */
  of(provider: Provider, device: GpuReading, processor: string): Calibration | null {
    const names = [device.name, processor];
    return this.view?.calibrations.find((one) => one.provider === provider && names.includes(one.device)) ?? null;
  }

  take(view: AccuracyView): void {
    this.view = view;
  }

  async clear(): Promise<void> {
    const reply = await this.#api.clearAccuracy();
    if (!reply.ok) return;
    this.view = reply.value;
    announcer.say(i18n.t.accuracy.cleared);
  }

  async calibrate(provider: Provider): Promise<void> {
    this.error = null;
    const reply = await this.#api.calibrate(provider);
    if (reply.ok) {
      this.view = reply.value;
      const found = reply.value.calibrations.find((one) => one.provider === provider);
      if (found) announcer.say(i18n.t.accuracy.calibrationDone(found.percent));
    } else if (reply.error.code === 'E_CANCELLED') {
      announcer.say(i18n.t.accuracy.calibrationStopped);
    } else {
      this.error = reply.error;
    }
  }

  async stopCalibration(): Promise<void> {
    await this.#api.stopCalibration();
  }
}
