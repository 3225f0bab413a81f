import type { SnugApi } from '../../src/contract/api.js';
import type { GpuReading, HardwareReading } from '../../src/contract/types.js';
import {
  defaultBudgetBytes,
  deviceList,
  keptFreeBytes,
  manualDevice,
  manualDeviceId,
  othersBytes,
  preferredDevice,
} from '../view/devices.js';

/** Longest wait before the page offers manual entry; a later reading is still taken. */
const patienceMs = 5000;
const fallbackManualBytes = 8e9;

/** Which device is planned for, and what was read about it. */
export class HardwareStore {
  readonly #api: SnugApi;
  #settle: () => void = () => undefined;
  /** Resolves when there is something to plan for: a reading, or the manual size after the longest wait. */
  readonly settled: Promise<void> = new Promise((resolve) => (this.#settle = resolve));
  status: 'loading' | 'ready' | 'failed' = $state('loading');
  reading: HardwareReading | null = $state.raw(null);
  #chosenId: string | null = $state(null);
  manualBytes: number | null = $state(null);

  readonly devices: GpuReading[] = $derived(this.reading === null ? [] : deviceList(this.reading));
  readonly device: GpuReading | null = $derived.by(() => {
    if (this.manualBytes !== null) return manualDevice(this.manualBytes);
    return this.devices.find((device) => device.id === this.#chosenId) ?? preferredDevice(this.devices);
  });
  readonly keptBytes: number = $derived(this.device === null ? 0 : keptFreeBytes(this.device));
  readonly othersBytes: number | null = $derived(this.device === null ? null : othersBytes(this.device));
  /** What Snug may use by default; 0 until something is known. */
  readonly defaultBudgetBytes: number = $derived(this.device === null ? 0 : (defaultBudgetBytes(this.device) ?? 0));

  constructor(api: SnugApi) {
    this.#api = api;
  }

  async load(): Promise<void> {
    if (this.reading === null) this.status = 'loading';
    const patience = setTimeout(() => this.#giveUp(), patienceMs);
    const reply = await this.#api.hardware();
    clearTimeout(patience);
    if (!reply.ok) {
      this.#giveUp();
      return;
    }
    this.reading = reply.value;
    // The stand-in size gives way to a late reading; a size the user chose meanwhile does not.
    if (this.status === 'failed' && this.manualBytes === fallbackManualBytes) this.manualBytes = null;
    this.status = 'ready';
    this.#settle();
  }

  choose(deviceId: string): void {
    this.manualBytes = null;
    this.#chosenId = deviceId;
  }

  planForAnother(totalBytes: number): void {
    this.manualBytes = totalBytes;
  }

  get isManual(): boolean {
    return this.device?.id === manualDeviceId;
  }

  backToThisComputer(): void {
    this.manualBytes = null;
  }

  #giveUp(): void {
    if (this.reading !== null) return;
    this.status = 'failed';
    this.manualBytes ??= fallbackManualBytes;
    this.#settle();
  }
}
