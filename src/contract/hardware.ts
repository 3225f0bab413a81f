import type { Provider } from './vocabulary.js';

/** What the hardware says of its memory. */

export type Confidence = 'measured' | 'reported' | 'guessed' | 'unknown';

export interface GpuReading {
  /** Stable within one reading, e.g. `nvidia-0`, `amd-0000:03:00.0`, `manual`, `ram`. */
  id: string;
  name: string;
  vendor: 'nvidia' | 'amd' | 'intel' | 'apple' | 'other' | 'none';
  totalBytes: number | null;
  freeBytes: number | null;
  /**
   * Held by all other programs; null when the source cannot tell. Includes what Snug holds where `heldByUsBytes` is
   * null; `notes` say where it is a lower bound.
   */
  heldByOthersBytes: number | null;
  /** Held by Snug's own processes; null when the source cannot tell. */
  heldByUsBytes: number | null;
  /** Where a sampler finds the device again: PCI address `0000:03:00.0`, on Windows the LUID `0_e0a7`; null without. */
  address: string | null;
  /** Memory shared with the system (integrated GPU, Apple). */
  shared: boolean;
  /** Plain words: "NVIDIA driver (nvidia-smi)", "Linux kernel (amdgpu sysfs)", "entered by you". */
  source: string;
  confidence: Confidence;
  /** Execution providers that could use this device in this installation. */
  providers: Provider[];
  /** Milliseconds since the epoch. */
  readAt: number;
  /** Known wrong answers that were corrected or could not be, e.g. "Windows reports at most 4 GB here". */
  notes: string[];
  /** Version of the graphics driver; absent where nothing tells it. */
  driver?: string;
}

export interface HardwareReading {
  gpus: GpuReading[];
  ram: {
    totalBytes: number;
    freeBytes: number;
    /** Resident bytes of Snug's own processes; null when the source cannot tell. */
    heldByUsBytes: number | null;
    source: string;
    confidence: Confidence;
  };
  cpu: { name: string; cores: number };
  platform: string;
}
