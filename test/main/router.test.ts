import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { createDoor } from '../../src/app/door/door.js';
import { doorInfo } from '../../src/app/door/info.js';
import { createRecents } from '../../src/app/door/recents.js';
import { openSettings } from '../../src/app/door/settings.js';
import type { Result } from '../../src/contract/errors.js';
import type { FileSession } from '../../src/contract/validate.js';
import { fakeService } from '../unit/serve/fake-service.js';
import type { FakeElectron } from './fake-electron.js';

const state = vi.hoisted(() => ({ electron: null as unknown }));
vi.mock('electron', async () => {
  const { fakeElectron: create } = await import('./fake-electron.js');
  state.electron = create();
  return state.electron as object;
});
const { routeCalls } = await import('../../electron/router.js');
const { desktopCalls } = await import('../../electron/desktop.js');
const { words } = await import('../../electron/words.js');
const electron = state.electron as FakeElectron;

const folder = mkdtempSync(path.join(os.tmpdir(), 'snug-router-'));
const model = path.join(folder, 'net.onnx');
writeFileSync(model, 'x');
afterAll(() => rmSync(folder, { recursive: true, force: true }));

let service: ReturnType<typeof fakeService>;
let page: InstanceType<FakeElectron['BrowserWindow']>;

beforeEach(async () => {
  service = fakeService();
  const settings = await openSettings(path.join(folder, 'settings'));
  const door = createDoor({
    service,
    recents: createRecents(settings),
    info: doorInfo('desktop', ['en']),
    outputDirectory: () => Promise.resolve(folder),
  });
  page = new electron.BrowserWindow({});
  const calls = desktopCalls(door, () => null, words(['en']));
  routeCalls(door, calls, () => page.webContents as never);
});

async function invoke<T>(channel: string, args: unknown[], frame?: unknown): Promise<Result<T>> {
  const event = { sender: page.webContents, senderFrame: frame === undefined ? page.webContents.mainFrame : frame };
  return (await electron.ipcHandlers.get(channel)?.(event, ...args)) as Result<T>;
}
const call = <T>(name: unknown, ...args: unknown[]) => invoke<T>('snug:call', [name, args]);

describe('router', () => {
  it('listens on two channels only', () => {
    expect([...electron.ipcHandlers.keys()]).toEqual(['snug:call', 'snug:files']);
  });

  it('refuses frames that are not our main frame, and does nothing for them', async () => {
    for (const frame of [null, { origin: 'snug://app' }, { origin: 'https://evil.example' }]) {
      for (const [channel, ...args] of [
        ['snug:call', 'openSample', ['digits']],
        ['snug:files', [model]],
      ] as const) {
        const reply = await invoke(channel, args, frame);
        expect(reply).toMatchObject({ ok: false, error: { code: 'E_BAD_REQUEST' } });
      }
    }
    expect(service.calls).toEqual([]);
  });

  it('refuses names and arguments outside the contract', async () => {
    const bad: unknown[][] = [
      ['__proto__'],
      ['toString'],
      [42],
      ['openSample'],
      ['openSample', '../digits'],
      ['openSample', { id: 'digits' }],
      ['openFiles', { session: model }],
      ['openFiles', [model]],
      ['cancel', 1],
      ['accuracy', 1],
      ['calibrate'],
      ['calibrate', 'tpu'],
      ['clearAccuracy', 'all'],
      ['plan', { modelId: 'm', budgetBytes: Number.NaN, pins: {} }],
      ['diagnostics', { code: 'E_NOPE', message: '', action: '', params: {} }],
    ];
    for (const [name, ...args] of bad) {
      expect(await call(name, ...args)).toMatchObject({ ok: false, error: { code: 'E_BAD_REQUEST' } });
    }
    expect(await invoke('snug:call', ['info', 'not an array'])).toMatchObject({ error: { code: 'E_BAD_REQUEST' } });
  });

  it('takes paths only as absolute strings and answers with an opaque session', async () => {
    for (const paths of [undefined, 'x', [], ['net.onnx'], [42], ['/a\0b'], [`/${'x'.repeat(40_000)}`]]) {
      expect(await invoke('snug:files', [paths])).toMatchObject({ ok: false, error: { code: 'E_BAD_REQUEST' } });
    }
    const reply = await invoke<FileSession>('snug:files', [[model]]);
    expect(reply.ok && JSON.stringify(reply.value)).not.toContain(folder);
    const opened = await call('openFiles', reply.ok ? reply.value : null);
    expect(opened).toMatchObject({ ok: true, value: { summary: { path: 'net.onnx' } } });
    expect(service.calls).toEqual([`open ${model}`]);
    expect(electron.app.addRecentDocument).toHaveBeenCalledWith(model);
  });

  it('opens from the dialog and from the recents, and takes a closed dialog for nothing', async () => {
    electron.dialog.showOpenDialog.mockResolvedValueOnce({ canceled: true, filePaths: [] });
    expect(await call('chooseModel')).toEqual({ ok: true, value: null });
    electron.dialog.showOpenDialog.mockResolvedValueOnce({ canceled: false, filePaths: [model] });
    expect(await call('chooseModel')).toMatchObject({ ok: true, value: { modelId: 'model-1' } });
    const recent = await call<{ id: string; missing: boolean }[]>('recent');
    expect(recent.ok && recent.value).toMatchObject([{ missing: false }]);
    expect(await call('openRecent', recent.ok ? recent.value[0]?.id : '')).toMatchObject({ ok: true });
    expect(await call('openRecent', 'unknown')).toMatchObject({ ok: false, error: { code: 'E_NOT_FOUND' } });
  });

  it('passes on calibration and the record', async () => {
    const nothing = { runs: [], summary: null, calibrations: [], calibrating: null };
    expect(await call('accuracy')).toEqual({ ok: true, value: nothing });
    expect(await call('calibrate', 'cuda')).toMatchObject({ ok: true });
    expect(await call('stopCalibration')).toEqual({ ok: true, value: null });
    expect(await call('clearAccuracy')).toEqual({ ok: true, value: nothing });
    expect(service.calls).toEqual(['calibrate cuda', 'stop calibration', 'clear accuracy']);
  });

  it('shows a result in its folder and never tells the page where that is', async () => {
    const request = { modelId: 'model-1', budgetBytes: 1, pins: {} };
    expect(await call('startFit', request)).toEqual({ ok: true, value: { jobId: 'job-1' } });
    expect(await call('saveOutput', 'job-1', 'model')).toEqual({ ok: true, value: null });
    expect(electron.shell.showItemInFolder).toHaveBeenCalledWith(path.join(folder, 'net.snug.onnx'));
    expect(JSON.stringify(await call('diagnostics', null))).not.toContain(folder);
  });

  it('turns a page away that floods it', async () => {
    const releases: (() => void)[] = [];
    service.hardware = () => new Promise((resolve) => releases.push(() => resolve({} as never)));
    const open = Array.from({ length: 200 }, () => call('hardware'));
    expect(await call('info')).toMatchObject({ ok: false, error: { code: 'E_BAD_REQUEST' } });
    for (const release of releases) release();
    expect((await Promise.all(open)).every((reply) => reply.ok)).toBe(true);
    expect(await call('info')).toMatchObject({ ok: true });
  });
});
