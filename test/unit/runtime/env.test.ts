import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { expect, it } from 'vitest';
import { runtimeEnv } from '../../../src/runtime/spawn.js';

it('passes on what drivers need and nothing else', () => {
  const env = {
    PATH: '/bin',
    CUDA_VISIBLE_DEVICES: '1',
    AWS_SECRET_ACCESS_KEY: 'x',
    NODE_OPTIONS: '--inspect',
    CI: '1',
  };
  expect(runtimeEnv(env)).toEqual({ PATH: '/bin', CUDA_VISIBLE_DEVICES: '1', ORT_DISABLE_TELEMETRY: '1' });
});

it('never lets the runtime report to its maker', () => {
  expect(runtimeEnv({ ORT_DISABLE_TELEMETRY: '0' }).ORT_DISABLE_TELEMETRY).toBe('1');
});

it('finds the Vulkan loader beside a driver', () => {
  const folder = mkdtempSync(path.join(tmpdir(), 'snug-vulkan-'));
  writeFileSync(path.join(folder, 'libvulkan.so.1'), '');
  const driver = path.join(folder, 'driver.json');
  expect(runtimeEnv({ VK_ICD_FILENAMES: driver, LD_LIBRARY_PATH: '/lib' }).LD_LIBRARY_PATH).toBe(
    ['/lib', folder].join(path.delimiter),
  );
  rmSync(folder, { recursive: true });
});
