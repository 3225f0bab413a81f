import { afterEach, describe, expect, it, vi } from 'vitest';
import { Devices } from '../../../src/app/devices.js';
import type { SpawnRuntime } from '../../../src/runtime/spawn.js';

afterEach(() => vi.useRealTimers());

/** Runtime processes that die as soon as they are started. */
function crashing(): { spawn: SpawnRuntime; started: () => number } {
  let started = 0;
  const spawn: SpawnRuntime = () => {
    started++;
    return {
      pid: undefined,
      channel: { post: () => undefined, onMessage: () => undefined, onClose: () => undefined },
      kill: () => undefined,
      onExit: (listener) =>
        void setImmediate(() => listener({ code: null, signal: 'SIGSEGV', stderr: '', memoryKill: false })),
    };
  };
  return { spawn, started: () => started };
}

describe('whether a device computes in float16', () => {
  it('starts no process again for a while where the one that tried crashed', async () => {
    vi.useFakeTimers({ toFake: ['Date'] });
    const { spawn, started } = crashing();
    const devices = new Devices(spawn);
    expect(await Promise.all([devices.computesHalf('webgpu'), devices.computesHalf('webgpu')])).toEqual([true, true]);
    const once = started();
    expect(once).toBeGreaterThan(0);
    expect(await devices.computesHalf('webgpu')).toBe(true);
    expect(started()).toBe(once);
    vi.setSystemTime(Date.now() + 10 * 60_000);
    expect(await devices.computesHalf('webgpu')).toBe(true);
    expect(started()).toBeGreaterThan(once);
  });

  it('starts none for the cpu', async () => {
    const { spawn, started } = crashing();
    expect(await new Devices(spawn).computesHalf('cpu')).toBe(true);
    expect(started()).toBe(0);
  });
});
