import { EventEmitter } from 'node:events';
import { vi } from 'vitest';

/** Stands in for the `electron` module: records what the main process sets and lets a test play the other side. */
export function fakeElectron() {
  const ipcHandlers = new Map<string, (...args: unknown[]) => unknown>();
  const windows: FakeWindow[] = [];
  const session = {
    requestHandler: undefined as unknown as (
      contents: unknown,
      permission: string,
      callback: (granted: boolean) => void,
      details: { requestingUrl: string },
    ) => void,
    checkHandler: undefined as unknown as (contents: unknown, permission: string, origin: string) => boolean,
    deviceHandler: undefined as unknown as () => boolean,
    beforeRequest: undefined as unknown as (
      details: { url: string },
      callback: (answer: { cancel: boolean }) => void,
    ) => void,
    setPermissionRequestHandler(handler: typeof this.requestHandler) {
      this.requestHandler = handler;
    },
    setPermissionCheckHandler(handler: typeof this.checkHandler) {
      this.checkHandler = handler;
    },
    setDevicePermissionHandler(handler: typeof this.deviceHandler) {
      this.deviceHandler = handler;
    },
    webRequest: {
      onBeforeRequest(handler: (details: { url: string }, callback: (answer: { cancel: boolean }) => void) => void) {
        session.beforeRequest = handler;
      },
    },
    protocol: { handle: vi.fn() },
  };
  const app = Object.assign(new EventEmitter(), {
    isPackaged: true,
    calls: [] as string[],
    enableSandbox: () => app.calls.push('enableSandbox'),
    whenReady: () => Promise.resolve(app.calls.push('ready')),
    requestSingleInstanceLock: () => true,
    setAppUserModelId: vi.fn(),
    getPreferredSystemLanguages: () => ['zh-Hans-CN', 'en-US'],
    getPath: (name: string) => `/places/${name}`,
    addRecentDocument: vi.fn(),
    quit: vi.fn(),
    exit: vi.fn(),
  });

  class FakeWebContents extends EventEmitter {
    readonly mainFrame = { origin: 'snug://app' };
    readonly sent: [string, unknown][] = [];
    openHandler: (() => { action: string }) | null = null;
    setWindowOpenHandler(handler: () => { action: string }) {
      this.openHandler = handler;
    }
    send(channel: string, content: unknown) {
      this.sent.push([channel, content]);
    }
    isDestroyed() {
      return false;
    }
  }

  class FakeWindow extends EventEmitter {
    readonly webContents = new FakeWebContents();
    readonly bars: number[] = [];
    url = '';
    destroyed = false;
    constructor(readonly options: Record<string, unknown>) {
      super();
      windows.push(this);
      app.emit('web-contents-created', {}, this.webContents);
    }
    loadURL(url: string) {
      this.url = url;
      return Promise.resolve();
    }
    setProgressBar(value: number) {
      this.bars.push(value);
    }
    isDestroyed() {
      return this.destroyed;
    }
    destroy() {
      this.destroyed = true;
    }
    isFocused = () => true;
    isMinimized = () => false;
    show = vi.fn();
    focus = vi.fn();
    restore = vi.fn();
  }

  return {
    app,
    windows,
    ipcHandlers,
    session: { defaultSession: session },
    BrowserWindow: FakeWindow,
    nativeTheme: { shouldUseDarkColors: true },
    protocol: { registerSchemesAsPrivileged: vi.fn(() => app.calls.push('registerScheme')) },
    ipcMain: {
      handle: (channel: string, handler: (...args: unknown[]) => unknown) => ipcHandlers.set(channel, handler),
    },
    Menu: { setApplicationMenu: vi.fn(), buildFromTemplate: (template: unknown) => template },
    dialog: { showOpenDialog: vi.fn(), showSaveDialog: vi.fn(), showMessageBox: vi.fn() },
    shell: { showItemInFolder: vi.fn() },
    powerSaveBlocker: { start: vi.fn(() => 7), stop: vi.fn() },
    Notification: Object.assign(vi.fn(), { isSupported: () => false }),
    utilityProcess: { fork: vi.fn() },
    contextBridge: { exposeInMainWorld: vi.fn() },
    ipcRenderer: { invoke: vi.fn(), on: vi.fn(), removeListener: vi.fn() },
    webUtils: { getPathForFile: vi.fn((file: { path?: string }) => file.path ?? '') },
  };
}

export type FakeElectron = ReturnType<typeof fakeElectron>;
