import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, beforeEach, describe, expect, it, vi } from 'vitest';
import type { Door } from '../../src/app/door/door.js';
import type { JobEvent } from '../../src/contract/types.js';
import type { FakeElectron } from './fake-electron.js';

const state = vi.hoisted(() => ({ electron: null as unknown }));
vi.mock('electron', async () => {
  const { fakeElectron: create } = await import('./fake-electron.js');
  state.electron = create();
  return state.electron as object;
});
const { askBeforeClosing, showJobs } = await import('../../electron/jobs.js');
const { desktopCalls } = await import('../../electron/desktop.js');
const { filesOf } = await import('../../electron/launch-files.js');
const { menuTemplate } = await import('../../electron/menu.js');
const { words } = await import('../../electron/words.js');
const electron = state.electron as FakeElectron;

const folder = mkdtempSync(path.join(os.tmpdir(), 'snug-desktop-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

let window: InstanceType<FakeElectron['BrowserWindow']>;
let emit: (event: JobEvent) => void;
let running: string[];
let cancelled: string[];
let door: Door;

beforeEach(() => {
  vi.clearAllMocks();
  window = new electron.BrowserWindow({});
  running = ['job-1'];
  cancelled = [];
  const listeners: ((event: JobEvent) => void)[] = [];
  emit = (event) => listeners.forEach((listener) => listener(event));
  const model = path.join(folder, 'net.snug.onnx');
  door = {
    onJobEvent: (listener: (event: JobEvent) => void) => listeners.push(listener),
    running: () => running,
    cancel: (jobId: string) => Promise.resolve(cancelled.push(jobId)),
    output: () => ({ path: model, json: '{"plan":1}\n', html: '<p>report</p>' }),
  } as unknown as Door;
});

const progress = (done: number, total: number | null): JobEvent => ({
  jobId: 'job-1',
  kind: 'progress',
  progress: { phase: 'writing', done, total, unit: 'bytes' },
  elapsedMs: 5,
});
const failed: JobEvent = {
  jobId: 'job-1',
  kind: 'failed',
  error: { code: 'E_CANCELLED', message: '', action: '', params: {} },
  bestSoFar: null,
};

describe('a running job', () => {
  it('shows on the taskbar and keeps the computer awake, until it ends in any way', () => {
    showJobs(door, window as never, words(['en']));
    emit(progress(1, 4));
    emit(progress(9, 4));
    emit(progress(1, null));
    expect(electron.powerSaveBlocker.start).toHaveBeenCalledOnce();
    emit(failed);
    expect(window.bars).toEqual([0.25, 1, 2, -1]);
    expect(electron.powerSaveBlocker.stop).toHaveBeenCalledWith(7);
  });

  it('is asked about before the window closes', async () => {
    askBeforeClosing(door, window as never, words(['en']));
    const close = () => {
      const preventDefault = vi.fn();
      window.emit('close', { preventDefault });
      return preventDefault;
    };
    electron.dialog.showMessageBox.mockResolvedValueOnce({ response: 0 });
    expect(close()).toHaveBeenCalled();
    await vi.waitFor(() => expect(electron.dialog.showMessageBox).toHaveBeenCalledOnce());
    expect(electron.dialog.showMessageBox.mock.calls[0]?.[1]).toMatchObject({
      buttons: ['Keep working', 'Stop and quit'],
      defaultId: 0,
      cancelId: 0,
    });
    await new Promise(setImmediate);
    expect([cancelled, window.destroyed]).toEqual([[], false]);

    electron.dialog.showMessageBox.mockResolvedValueOnce({ response: 1 });
    close();
    await vi.waitFor(() => expect(window.destroyed).toBe(true));
    expect(cancelled).toEqual(['job-1']);

    running = [];
    expect(close()).not.toHaveBeenCalled();
  });
});

describe('saving a report', () => {
  const save = (what: 'report-json' | 'report-html') =>
    desktopCalls(door, () => null, words(['en'])).saveOutput('job-1', what);

  it('writes it whole to the chosen file', async () => {
    const target = path.join(folder, 'chosen.json');
    writeFileSync(target, 'old');
    electron.dialog.showSaveDialog.mockResolvedValueOnce({ filePath: target });
    expect(await save('report-json')).toBeNull();
    expect(JSON.parse(readFileSync(target, 'utf8'))).toEqual({ plan: 1 });
    expect(electron.dialog.showSaveDialog.mock.calls[0]?.[0]).toMatchObject({
      defaultPath: path.join(folder, 'net.snug.report.json'),
    });
  });

  it('leaves nothing behind when it fails, and says why', async () => {
    const before = readdirSync(folder);
    electron.dialog.showSaveDialog.mockResolvedValueOnce({ filePath: path.join(folder, 'no such folder', 'a.html') });
    await expect(save('report-html')).rejects.toMatchObject({ code: 'E_NOT_FOUND' });
    expect(readdirSync(folder)).toEqual(before);
    electron.dialog.showSaveDialog.mockResolvedValueOnce({ filePath: '' });
    expect(await save('report-html')).toBeNull();
  });
});

describe('the command line of the app', () => {
  it('gives files that exist, and no switches', () => {
    writeFileSync(path.join(folder, 'net.onnx'), '');
    const argv = ['electron', '.', '--self-test', 'net.onnx', 'missing.onnx', ''];
    expect(filesOf(argv, folder, 2)).toEqual([path.join(folder, 'net.onnx')]);
  });
});

describe('the menu', () => {
  it('speaks the first language of the system that it knows', () => {
    expect(words(['fr-FR', 'zh-Hans-CN', 'en']).file).toBe('文件');
    expect(words(['fr-FR']).file).toBe('File');
    expect(words(['en-GB', 'zh-CN']).file).toBe('File');
  });

  it('opens a model by key and offers no developer tools in the packaged app', () => {
    const template = menuTemplate(words(['en']), { open: vi.fn() });
    const items = template.flatMap((menu) => (Array.isArray(menu.submenu) ? menu.submenu : []));
    expect(items.find((item) => item.label === 'Open…')?.accelerator).toBe('CmdOrCtrl+O');
    expect(items.map((item) => item.role)).not.toContain('toggleDevTools');
  });
});
