import { SnugError } from '../../contract/errors.js';
import type { Provider } from '../../contract/types.js';
import type { EngineClient } from '../engine-client.js';
import type { AccuracyStore, DeviceKey } from './store.js';

export interface CalibratorOptions {
  store: AccuracyStore;
  startEngine: () => EngineClient;
  keyOf: (provider: Provider) => Promise<DeviceKey>;
  /** True while a job runs: measuring beside it would spoil both. */
  busy: () => boolean;
  /** Something about calibrations changed: one began, ended or was stopped. */
  onChange: () => void;
}

/** Whether devices are calibrated by themselves: always, unless the environment says `SNUG_CALIBRATE=never`. */
export function calibratesByItself(env: NodeJS.ProcessEnv = process.env): boolean {
  return env.SNUG_CALIBRATE !== 'never';
}

/** After the last plan; a hand on a slider comes back sooner than this. */
const quietMs = 2000;

/** Runs calibrations, one at a time: when asked to, and once by itself for a device that has none. */
export class Calibrator {
  #running: { provider: Provider; engine: EngineClient; done: Promise<void> } | null = null;
  #timer: NodeJS.Timeout | undefined;
  /** Tried by itself and failed: asking again is the user's. */
  readonly #gaveUp = new Set<Provider>();

  constructor(private readonly options: CalibratorOptions) {}

  get provider(): Provider | null {
    return this.#running?.provider ?? null;
  }

  /** @throws SnugError of the run; `E_CANCELLED` when it was stopped; `E_USAGE` beside a job or another calibration */
  async run(provider: Provider): Promise<void> {
    clearTimeout(this.#timer);
    if (this.options.busy() || this.#running) {
      throw new SnugError('E_USAGE', 'Snug is running a model already.', { action: 'Wait until it is done.' });
    }
    const engine = this.options.startEngine();
    const done = this.#measure(engine, provider);
    this.#running = { provider, engine, done };
    this.options.onChange();
    try {
      await done;
    } finally {
      this.#running = null;
      engine.kill();
      this.options.onChange();
    }
  }

  /** Calibrates a device that was never calibrated, when nothing else is going on for a while. */
  soon(provider: Provider): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void this.#byItself(provider), quietMs);
    this.#timer.unref();
  }

  /** Ends the run under way, whoever began it; resolves when its processes are told to go. */
  async stop(): Promise<void> {
    clearTimeout(this.#timer);
    const running = this.#running;
    running?.engine.kill();
    await running?.done.catch(() => undefined);
  }

  async #byItself(provider: Provider): Promise<void> {
    if (this.options.busy() || this.#running || this.#gaveUp.has(provider)) return;
    const known = await this.options.store.calibrationOf(await this.options.keyOf(provider));
    if (known || this.options.busy() || this.#running) return;
    try {
      await this.run(provider);
    } catch (error) {
      // A stop is the user's or a job's wish; anything else would fail again the same way.
      if (SnugError.from(error).code !== 'E_CANCELLED') this.#gaveUp.add(provider);
    }
  }

  async #measure(engine: EngineClient, provider: Provider): Promise<void> {
    const key = await this.options.keyOf(provider);
    const result = await engine.ask({ kind: 'calibrate', provider });
    if (result.probes.length === 0) {
      throw new SnugError('E_NOT_SUPPORTED', 'Nothing on this device shows how much memory a model takes.', {
        action: 'Estimates keep the interval of the rule.',
      });
    }
    await this.options.store.addCalibration({ ...key, ...result, at: Date.now() });
  }
}
