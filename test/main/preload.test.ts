import { expect, it, vi } from 'vitest';
import type { SnugApi } from '../../src/contract/api.js';
import { contract } from '../../src/contract/validate.js';
import type { FakeElectron } from './fake-electron.js';

const state = vi.hoisted(() => ({ electron: null as unknown }));
vi.mock('electron', async () => {
  const { fakeElectron: create } = await import('./fake-electron.js');
  state.electron = create();
  return state.electron as object;
});
await import('../../electron/preload.js');
const electron = state.electron as FakeElectron;
const [exposed] = electron.contextBridge.exposeInMainWorld.mock.calls as [string, Required<SnugApi>][];
const [name, api] = exposed ?? [];

it('exposes one object that holds functions only, exactly those of the contract', () => {
  expect(electron.contextBridge.exposeInMainWorld).toHaveBeenCalledOnce();
  expect(name).toBe('snug');
  expect(Object.values(api ?? {}).every((value) => typeof value === 'function')).toBe(true);
  expect(Object.keys(api ?? {}).sort()).toEqual([...Object.keys(contract), 'onJobEvent', 'onModelOpened'].sort());
});

it('sends paths to main, gets a session back and passes only that on', async () => {
  electron.ipcRenderer.invoke
    .mockResolvedValueOnce({ ok: true, value: { session: 's-1' } })
    .mockResolvedValueOnce({ ok: true, value: {} });
  await api?.openFiles([{ path: '/models/net.onnx' }, {}] as never);
  expect(electron.ipcRenderer.invoke.mock.calls).toEqual([
    ['snug:files', ['/models/net.onnx']],
    ['snug:call', 'openFiles', [{ session: 's-1' }]],
  ]);
});

it('hands listeners the content, never the event, and lets them go', () => {
  const listener = vi.fn();
  const stop = api?.onJobEvent(listener);
  const [channel, receive] = electron.ipcRenderer.on.mock.calls[0] as [string, (...args: unknown[]) => void];
  receive({ sender: 'the way back into IPC' }, { jobId: 'job-1' });
  expect(listener.mock.calls).toEqual([[{ jobId: 'job-1' }]]);
  stop?.();
  expect(electron.ipcRenderer.removeListener).toHaveBeenCalledWith(channel, receive);
});
