import type { GpuReading, HardwareReading, Provider } from '../contract/types.js';
import { readHardware } from '../hardware/read.js';
import { createRuntime } from '../runtime/client.js';
import type { SpawnRuntime } from '../runtime/spawn.js';
import { deviceKey } from './accuracy/device.js';
import type { DeviceKey } from './accuracy/store.js';
import { defaultProvider, deviceFor } from './open.js';

/** The devices of this computer, and what this installation can run on them. */
export class Devices {
  #installed: Promise<Provider[]> | null = null;
  #reading: HardwareReading | null = null;

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
