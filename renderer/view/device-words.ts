import type { GpuReading } from '../../src/contract/types.js';
import type { Messages } from '../i18n/locale.svelte.js';
import { manualDeviceId, ramDeviceId } from './devices.js';

export function deviceName(device: GpuReading, t: Messages): string {
  if (device.id === manualDeviceId) return t.hardware.manualName(device.totalBytes ?? 0);
  if (device.id === ramDeviceId) return t.hardware.ramName;
  const size = device.totalBytes === null ? t.hardware.unknownSize : '';
  return [device.name, device.shared ? t.hardware.shared : '', size].filter(Boolean).join(' · ');
}

/** Where the numbers come from, in plain words. */
export function deviceSource(device: GpuReading, t: Messages): string {
  if (device.id === manualDeviceId) return t.hardware.entered;
  if (device.source === '') return device.id === ramDeviceId ? t.hardware.ramSource : '';
  return t.hardware.source(device.source, device.confidence);
}
