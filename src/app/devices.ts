import { mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import type { GpuReading, HardwareReading, Provider } from '../contract/types.js';
import { computesHalf } from '../fit/half-device.js';
import { readHardware } from '../hardware/read.js';
import { createRuntime } from '../runtime/client.js';
import type { SpawnRuntime } from '../runtime/spawn.js';
import { deviceKey } from './accuracy/device.js';
import type { DeviceKey } from './accuracy/store.js';
import { defaultProvider, deviceFor } from './open.js';

/** How long what could not be found out counts as answered: every move of the budget asks, and each try starts processes. */
const retryMs = 5 * 60_000;

/** The devices of this computer, and what this installation can run on them. */
export class Devices {
  #installed: Promise<Provider[]> | null = null;
  #reading: HardwareReading | null = null;
  readonly #half = new Map<Provider, { answer: Promise<boolean>; until: number }>();

  constructor(private readonly spawnRuntime: SpawnRuntime | undefined) {}

  /** Asks a runtime process once. */
  private providers(): Promise<Provider[]> {
    this.#installed ??= (async () => {
      const runtime = createRuntime(this.spawnRuntime ? { spawn: this.spawnRuntime } : {});
      try {
        return await runtime.providers();
      } finally {
        await runtime.close();
      }
    })();
    return this.#installed;
  }

  /**
   * Whether the device behind a provider computes in float16, tried once in a runtime process; true where that cannot be
   * found out, as the check of a fit does, and asked again only after a while.
   */
  async computesHalf(provider: Provider): Promise<boolean> {
    if (provider === 'cpu') return true;
    const known = this.#half.get(provider);
    if (known !== undefined && Date.now() < known.until) return known.answer;
    const asked = { answer: this.#tryHalf(provider), until: Infinity };
    asked.answer = asked.answer.catch(() => {
      asked.until = Date.now() + retryMs;
      return true;
    });
    this.#half.set(provider, asked);
    return asked.answer;
  }

  /** Finds out what plans for the device that is chosen by itself will ask. */
  async warmUp(): Promise<void> {
    await this.computesHalf(defaultProvider(await this.anyReading(), await this.providers()));
  }

  async #tryHalf(provider: Provider): Promise<boolean> {
    const directory = mkdtempSync(path.join(os.tmpdir(), 'snug-half-'));
    const runtime = createRuntime(this.spawnRuntime ? { spawn: this.spawnRuntime } : {});
    try {
      return await computesHalf(runtime, provider, directory);
    } finally {
      await runtime.close();
      rmSync(directory, { recursive: true, force: true });
    }
  }

  /** What is free right now. */
  async read(): Promise<HardwareReading> {
    this.#reading = await readHardware({ providers: await this.providers() });
    return this.#reading;
  }

  /** Names and drivers do not change while the app runs, so any reading will do. */
  private async anyReading(): Promise<HardwareReading> {
    return this.#reading ?? (await this.read());
  }

  async keyOf(provider: Provider): Promise<DeviceKey> {
    return deviceKey(await this.anyReading(), provider);
  }

  /** The device a provider runs on. */
  async of(provider: Provider): Promise<GpuReading> {
    return deviceFor(await this.anyReading(), provider);
  }

  /** The provider a person fixed, else the best there is. */
  async providerOf(pinned: Provider | undefined): Promise<Provider> {
    return pinned ?? defaultProvider(await this.read(), await this.providers());
  }
}
