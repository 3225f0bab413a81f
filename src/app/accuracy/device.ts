import os from 'node:os';
import type { HardwareReading, Provider } from '../../contract/types.js';
import { deviceFor } from '../open.js';
import type { DeviceKey } from './store.js';

/**
 * What a calibration holds for: the processor, or the GPU with its driver. Drivers that come with the system (Linux,
 * macOS) change with its release, which stands for them where no version of their own is known.
 */
export function deviceKey(
  hardware: HardwareReading,
  provider: Provider,
  release: string = `${os.type()} ${os.release()}`,
): DeviceKey {
  if (provider === 'cpu') return { device: hardware.cpu.name, driver: null, provider };
  const { name, driver } = deviceFor(hardware, provider);
  return { device: name, driver: driver ?? release, provider };
}
