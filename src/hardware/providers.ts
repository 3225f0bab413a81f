import type { GpuReading, Provider } from '../contract/types.js';

/**
 * Execution providers that could use a GPU, best first; `installed` (what onnxruntime says it has) narrows
 * them. A GPU of unknown make (entered by hand) gets all that the platform may offer, the computer's own
 * memory gets the CPU.
 */
export function gpuProviders(
  vendor: GpuReading['vendor'],
  platform: NodeJS.Platform,
  installed?: readonly Provider[],
): Provider[] {
  const possible = possibleProviders(vendor, platform);
  return installed === undefined ? possible : possible.filter((provider) => installed.includes(provider));
}

function possibleProviders(vendor: GpuReading['vendor'], platform: NodeJS.Platform): Provider[] {
  if (vendor === 'none') return ['cpu'];
  if (platform === 'win32') return ['dml', 'webgpu'];
  if (platform === 'darwin') return ['coreml', 'webgpu'];
  if (platform === 'linux' && (vendor === 'nvidia' || vendor === 'other')) return ['cuda', 'webgpu'];
  return ['webgpu'];
}
